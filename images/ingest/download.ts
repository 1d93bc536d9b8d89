import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { isIP } from 'node:net';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';
import { sourceFailed } from './source-url.ts';

/** One answer of a server: the file from `offset` on. */
export interface Answer {
  /** Where its first byte belongs: `offset` as asked, or 0 when the server has another file by now, or knows no ranges. */
  readonly offset: number;
  /** Of the whole file; undefined when the server does not say. */
  readonly bytes: number | undefined;
  /** What must be unchanged for the file to be gone on with: a strong ETag, else the time of its last change. */
  readonly validator: string | undefined;
  readonly content: AsyncIterable<Buffer>;
}

export interface Question {
  readonly url: URL;
  /** Checked, and the only one that is spoken to, whatever the name says meanwhile. */
  readonly address: string;
  /** 0, or what is here of the file that `validator` named. */
  readonly offset: number;
  readonly validator: string | undefined;
  /** PEM of the authorities that are believed; the system's when left out. */
  readonly ca: string | undefined;
  readonly signal: AbortSignal;
}

/**
 * Asks an https server for a file, or the rest of one (RFC 9110 §13.1.5 If-Range, §14.2 Range). The connection goes to
 * `address`; the certificate must be right for the name in the URL. No redirect is followed, no coding undone, no proxy asked.
 *
 * Errors: `image.source-refused` for redirects and for files that are not there; `image.source-failed` for everything that may
 * pass.
 */
export async function ask(question: Question): Promise<Answer> {
  const response = await sent(question);
  try {
    return answerOf(response, question);
  } catch (error) {
    response.destroy();
    throw error;
  }
}

function sent({ url, address, offset, validator, ca, signal }: Question): Promise<IncomingMessage> {
  const family = isIP(address);
  const ranged = offset > 0 && validator !== undefined;
  return new Promise((resolve, reject) => {
    const outgoing = request(url, {
      agent: false,
      signal,
      // The name is not asked for again: that a second answer may be another is what this stands against.
      lookup: (_host, { all }, found) => {
        if (all === true) found(null, [{ address, family }]);
        else found(null, address, family);
      },
      ...(isIP(url.hostname) === 0 && { servername: url.hostname }),
      ...(ca !== undefined && { ca }),
      rejectUnauthorized: true,
      headers: {
        'User-Agent': 'rackstart',
        // A compressed answer has other bytes than the ones whose digest is known.
        'Accept-Encoding': 'identity',
        ...(ranged && { Range: `bytes=${offset}-`, 'If-Range': validator }),
      },
    });
    outgoing.on('response', resolve);
    outgoing.on('error', (cause) => {
      reject(
        signal.aborted
          ? (signal.reason as Error)
          : sourceFailed(`${url.host} does not answer: ${cause.message}`, cause),
      );
    });
    outgoing.end();
  });
}

function answerOf(response: IncomingMessage, { url, offset }: Question): Answer {
  const { statusCode = 0, headers } = response;
  if (statusCode >= 300 && statusCode < 400) {
    const where = headers.location === undefined ? '' : `, to ${JSON.stringify(headers.location.slice(0, 200))}`;
    throw new RackstartError('image.source-refused', `${url.host} redirects${where}; redirects are not followed.`);
  }
  if (statusCode === 429 || statusCode >= 500 || statusCode === 408)
    throw sourceFailed(`${url.host} answers ${statusCode}`);
  if (statusCode !== 200 && statusCode !== 206) {
    throw new RackstartError('image.source-refused', `${url.host} answers ${statusCode} for the image.`);
  }
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
    throw new RackstartError('image.source-refused', `${url.host} sends the image in another coding than its own.`);
  }
  const validator = validatorOf(response);
  if (statusCode === 200) {
    const length = headers['content-length'];
    return { offset: 0, bytes: length === undefined ? undefined : Number(length), validator, content: response };
  }
  const [, first, last, whole] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(headers['content-range'] ?? '') ?? [];
  if (offset === 0 || Number(first) !== offset || Number(last) !== Number(whole) - 1) {
    throw sourceFailed(`${url.host} sends another part of the image than was asked for`);
  }
  return { offset, bytes: Number(whole), validator, content: response };
}

/** RFC 9110 §13.1.5: a weak ETag must not be sent with If-Range. */
function validatorOf({ headers }: IncomingMessage): string | undefined {
  const { etag } = headers;
  return etag !== undefined && /^"[\x21\x23-\x7e]{0,200}"$/.test(etag) ? etag : headers['last-modified'];
}

/** What comes, as long as no pause in it is longer than `silence`. Errors: `image.source-failed`. */
export async function* unbroken(
  content: AsyncIterable<Buffer>,
  { clock, silence, signal }: { clock: Clock; silence: Millis; signal: AbortSignal },
): AsyncGenerator<Buffer> {
  const chunks = content[Symbol.asyncIterator]();
  try {
    for (;;) {
      const heard = new AbortController();
      const stop = AbortSignal.any([heard.signal, signal]);
      const late = clock.sleepUntil(clock.now() + silence, stop).then(() => 'late' as const);
      late.catch(() => undefined);
      const next = await Promise.race([chunks.next(), late]).finally(() => heard.abort());
      if (next === 'late') throw sourceFailed(`Nothing came for ${silence} ms`);
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    // Not awaited: it may wait for the very read that never ends.
    void chunks.return?.();
  }
}
