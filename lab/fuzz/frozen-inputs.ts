import { PIECE_BYTES } from '../../images/chunk-cache.ts';
import type { Dice } from './dice.ts';
import type { ServedFile } from './frozen-image.ts';
import type { HttpAnswer, WholeRequest } from './http-wire.ts';

/** A request for something of a frozen image, or for what is none. */
export interface FrozenRequest extends WholeRequest {
  readonly method: string;
  /** Undefined where nothing may be given. */
  readonly file: ServedFile | undefined;
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** What machines, caches and strangers ask of frozen images: mostly one request, now and then many on one connection at once. */
export function frozenRequests(dice: Dice, served: readonly ServedFile[]): readonly FrozenRequest[] {
  const count = dice.percent(85) ? 1 : 2 + dice.below(10);
  return Array.from({ length: count }, () => frozenRequest(dice, served));
}

/** What is wrong with an answer: what it gives is exact to the byte, and it gives nothing that is not there. */
export function wrongAnswer({ method, file, headers }: FrozenRequest, answer: HttpAnswer): string | undefined {
  const { status, head } = answer;
  if (file === undefined) return status < 400 ? `${status} for what is not there` : undefined;
  if (method !== 'GET' && method !== 'HEAD') return status < 400 ? `${status} for a ${method}` : undefined;
  const asked = (name: string) => headers.filter(([each]) => each === name).map(([, value]) => value);
  const tag = `"${file.digest}"`;
  const isKnown = asked('If-None-Match').some((tags) => tags.includes(tag) || tags.includes('*'));
  if (status !== 416 && !(head.includes(`etag: ${tag}`) && head.includes('immutable')))
    return `${status} without its tag`;
  switch (status) {
    case 200:
      return isKnown ? 'told what it knows' : wrongBytes(answer, method, file.content);
    case 206:
      return asked('If-Range').some((known) => known !== tag)
        ? 'a part of another file'
        : wrongPart(answer, method, file, asked('Range'));
    case 304:
      return isKnown ? undefined : 'not told what it does not know';
    case 416:
      return isBehind(asked('Range'), file) && head.includes(`content-range: bytes */${file.content.length}\r`)
        ? undefined
        : '416 without a reason';
    default:
      return `${status} for what is there`;
  }
}

function wrongPart(
  answer: HttpAnswer,
  method: string,
  { content }: ServedFile,
  ranges: readonly string[],
): string | undefined {
  const [, start = NaN, end = NaN, of = NaN] = (
    /^content-range: bytes (\d+)-(\d+)\/(\d+)\r$/m.exec(answer.head) ?? []
  ).map(Number);
  if (!(start <= end && end < of && of === content.length))
    return `part ${start}-${end} of ${of}, of ${content.length}`;
  const [, first = '', last = ''] = RANGE.exec(ranges[0] ?? '') ?? [];
  const from = first === '' ? Math.max(0, of - Number(last)) : Number(first);
  const to = first === '' || last === '' ? of - 1 : Math.min(Number(last), of - 1);
  if (ranges.length !== 1 || start !== from || end !== to) return `part ${start}-${end} for ${ranges.join(' and ')}`;
  return wrongBytes(answer, method, content.subarray(start, end + 1));
}

function wrongBytes({ status, head, body }: HttpAnswer, method: string, wanted: Buffer): string | undefined {
  if (!head.includes(`content-length: ${wanted.length}\r`))
    return `${status} with another length than ${wanted.length}`;
  if (!Buffer.from(body, 'latin1').equals(method === 'HEAD' ? Buffer.alloc(0) : wanted))
    return `${status} with other bytes`;
  return undefined;
}

function isBehind([range = '']: readonly string[], { content }: ServedFile): boolean {
  const [, first = '', last = ''] = RANGE.exec(range) ?? [];
  return first === '' ? last === '0' : Number(first) >= content.length;
}

const RANGE = /^bytes=(\d*)-(\d*)$/;

function frozenRequest(dice: Dice, served: readonly ServedFile[]): FrozenRequest {
  const file = dice.pick(served);
  const isThere = dice.percent(80);
  const path = isThere ? `${file.path}${dice.percent(5) ? '?x=..%2f..' : ''}` : elsewhere(dice, served);
  const method = dice.percent(5) ? dice.pick(METHODS) : dice.percent(15) ? 'HEAD' : 'GET';
  const headers: [string, string][] = [['Host', dice.percent(98) ? '10.77.0.1' : 'evil']];
  if (dice.percent(75)) headers.push(['Range', range(dice, file.content.length)]);
  if (dice.percent(10)) headers.push(['If-Range', dice.pick([...tags(file), tags(dice.pick(served))[0]])]);
  if (dice.percent(10))
    headers.push(['If-None-Match', dice.pick([...tags(file), '*', '"other", "tags"', `"a",${tags(file)[0]}`])]);
  if (dice.percent(5)) headers.push(dice.pick(OTHERS));
  const lines = [`${method} ${path} HTTP/1.1`, ...headers.map(([name, value]) => `${name}: ${value}`)];
  const bytes = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
  return { bytes, head: method === 'HEAD', method, file: isThere ? file : undefined, headers };
}

function tags({ digest }: ServedFile): [string, ...string[]] {
  return [`"${digest}"`, `W/"${digest}"`, digest, `"${'0'.repeat(64)}"`, '""', '"', 'Wed, 21 Oct 2026 07:28:00 GMT'];
}

/** Another digest, one of another kind of thing, one that is none, and roads out of the image directory. */
function elsewhere(dice: Dice, [map, ...others]: readonly ServedFile[]): string {
  const { digest } = map!;
  const chunk = others.at(-1)!.digest;
  const shelf = chunk.slice(0, 2);
  const any = dice.pick([digest, chunk]);
  return dice.pick([
    ...[`/chunk/${digest}`, `/image/${chunk}/map`, `/image/${chunk}/image.zst`, `/images/${any}`],
    ...[`/chunk/${dice.bytes(32).toString('hex')}`, `/image/${'0'.repeat(64)}/${dice.pick(['map', 'image.zst'])}`],
    ...[
      `/chunk/${chunk.toUpperCase()}`,
      `/chunk/${chunk.slice(1)}`,
      `/chunk/${chunk}0`,
      `/chunk/${chunk}/`,
      `/chunk/${chunk}%00`,
    ],
    ...[
      `/chunk/${shelf}/${chunk}`,
      `/chunk/${shelf}%2f${chunk}`,
      `/chunk/..%2fmaps%2f${digest}`,
      `/chunk/../maps/${digest}`,
    ],
    ...[
      `/image/..%2fchunks%2f${shelf}/map`,
      `/image/${digest}/../../etc/passwd`,
      `/image/${digest}/map%2f..%2f..%2fdisk.raw`,
    ],
    ...[
      `/image/${digest}/`,
      `/image/${digest}`,
      `/image//map`,
      `/image/${digest}/map/${chunk}`,
      '/image/%',
      '/chunk/',
      '/image/*/map',
    ],
    ...[`/image/${digest}/image.zst.tmp`, `/image/${digest};/map`, `/chunk/${any}${'/..'.repeat(40)}/etc/passwd`],
  ]);
}

function range(dice: Dice, length: number): string {
  const place = () =>
    dice.pick([
      0,
      1,
      PIECE_BYTES - 1,
      PIECE_BYTES,
      length - 1,
      length,
      length + 1,
      dice.below(length),
      2 ** 31,
      2 ** 53,
    ]);
  const from = place();
  return dice.percent(75)
    ? dice.pick([
        `bytes=${from}-${from + dice.below(2_000)}`,
        `bytes=${from}-${place()}`,
        `bytes=${from}-`,
        `bytes=-${place()}`,
      ])
    : dice.pick(ODD_RANGES);
}

const ODD_RANGES = [
  ...[
    'bytes=0-0,1-1',
    `bytes=${Array.from({ length: 200 }, (_, at) => `${at}-${at}`).join(',')}`,
    'bytes=-',
    'bytes=',
    'bytes',
  ],
  ...[
    'bytes=5-2',
    'bytes=-0',
    'bytes=--1',
    'bytes=1-2-3',
    'bytes=0x1-2',
    'bytes=1e1-',
    'bytes=+1-2',
    'bytes = 0-5',
    'items=0-5',
  ],
  ...[
    'bytes=0-99999999999999999999',
    'bytes=99999999999999999999-',
    'bytes=-99999999999999999999',
    `bytes=${'0'.repeat(3_000)}-`,
  ],
  ...['none', '', '0-5', 'bytes=NaN-NaN', 'bytes=\xb2-\xb3', 'bytes=0-5;q=1'],
];
const METHODS = ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'PROPFIND'];
const OTHERS: readonly [string, string][] = [
  ['Range', 'bytes=0-1'],
  ['If-Modified-Since', 'Sat, 21 Nov 2100 00:00:00 GMT'],
  ['If-Match', '"other"'],
  ['If-Unmodified-Since', 'Thu, 01 Jan 1970 00:00:00 GMT'],
  ['Accept-Encoding', 'gzip, br, zstd'],
  ['Accept', 'text/html'],
  ['TE', 'trailers, deflate'],
  ['Cache-Control', 'no-cache'],
  ['Content-Length', '0'],
];
