import type { FastifyReply, FastifyRequest } from 'fastify';

import { RackstartError } from '../../appliance/kernel/errors.ts';

/** What never changes under its name, and any cache may keep. */
export interface Immutable {
  readonly bytes: number;
  /** Hex: its entity tag. */
  readonly sha256: string;
  /** Bytes of no kind in particular unless told. */
  readonly type?: string;
}

/** Both ends included. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * Answers as far as the head goes: conditions (RFC 9110 §13), then the range (§14). What is to be sent then is returned;
 * undefined when the answer has no body. Without `partial` it is the whole. Throws `request.invalid`, with status 416, for a
 * range behind the end.
 */
export function beginImmutable(
  request: FastifyRequest,
  reply: FastifyReply,
  { bytes, sha256, type = 'application/octet-stream' }: Immutable,
): (ByteRange & { readonly partial: boolean }) | undefined {
  const etag = `"${sha256}"`;
  reply.type(type).headers({ etag, 'accept-ranges': 'bytes' });
  if (names(request.headers['if-none-match'], etag)) {
    reply.code(304);
    return undefined;
  }
  const ifRange = request.headers['if-range'];
  const range = ifRange === undefined || ifRange === etag ? readRange(request.headers.range, bytes) : undefined;
  if (range === 'unsatisfiable') {
    reply.header('content-range', `bytes */${bytes}`);
    throw Object.assign(new RackstartError('request.invalid', 'The range begins behind the end.'), { statusCode: 416 });
  }
  const { start, end } = range ?? { start: 0, end: bytes - 1 };
  if (range !== undefined) reply.code(206).header('content-range', `bytes ${start}-${end}/${bytes}`);
  reply.header('content-length', end - start + 1);
  return request.method === 'HEAD' || bytes === 0 ? undefined : { start, end, partial: range !== undefined };
}

/** What is under a digest never changes. */
export const FOREVER = { 'cache-control': 'public, max-age=31536000, immutable' } as const;

/** RFC 9110 §13.1.2: a list of tags, compared weakly, or `*`. */
function names(header: string | undefined, etag: string): boolean {
  return header !== undefined && header.split(',').some((tag) => ['*', etag, `W/${etag}`].includes(tag.trim()));
}

/** RFC 9110 §14.2: one range is served; what is not understood, and several at once, are answered with the whole. */
function readRange(header: string | undefined, bytes: number): ByteRange | 'unsatisfiable' | undefined {
  const [, first = '', last = ''] = /^bytes=([0-9]{0,15})-([0-9]{0,15})$/.exec(header ?? '') ?? [];
  if (first === '' && last === '') return undefined;
  if (first === '')
    return last === '0' ? 'unsatisfiable' : { start: Math.max(0, bytes - Number(last)), end: bytes - 1 };
  const start = Number(first);
  const end = last === '' ? bytes - 1 : Math.min(Number(last), bytes - 1);
  if (last !== '' && Number(last) < start) return undefined;
  return start >= bytes ? 'unsatisfiable' : { start, end };
}
