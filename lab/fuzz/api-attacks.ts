import type { Operation } from './api-document.ts';
import type { Asked, World } from './api-request.ts';
import { bytesOf, chunked, withJson } from './api-request.ts';
import type { Dice } from './dice.ts';
import { mutated } from './mutate.ts';

/** What an attack makes of a request: the request as it was changed, where nothing else is said. */
export interface Attacked {
  /** Instead of the request's own. */
  readonly bytes?: Buffer;
  /** False: it may be no whole request, or more than one. */
  readonly whole?: false;
  /** False: whoever asks so is not promised what the document says of this route. */
  readonly isDocumented?: false;
  /** True: however odd, its form is right. */
  readonly isRight?: true;
}

/** Changes a request into one that no client of good will sends. */
export function attack(asked: Asked, operation: Operation, dice: Dice, world: World): Attacked {
  return dice.pick(attacks)({ asked, operation, dice, world });
}

interface Target {
  readonly asked: Asked;
  readonly operation: Operation;
  readonly dice: Dice;
  readonly world: World;
}

const attacks: readonly ((target: Target) => Attacked)[] = [
  function jsonThatIsNone({ asked, dice }) {
    if (asked.body.length === 0) withJson(asked, {});
    const text = Buffer.from(asked.body);
    asked.body = mutated(text, dice, { dictionary: jsonWords, donor: text, longest: 4_000 });
    return {};
  },
  function jsonThatIsMoreThanOneThinks({ asked, dice }) {
    retype(asked, 'application/json');
    asked.body = dice.pick(oddJson)(asked.body.toString());
    return {};
  },
  function jsonThatIsDeep({ asked, dice }) {
    withJson(asked, nested(dice.pick([10, 1_000, 2_000])));
    return {};
  },
  function anotherType({ asked, dice }) {
    retype(asked, dice.pick(oddTypes));
    if (asked.body.length === 0) asked.body = '{}';
    return {};
  },
  function tooLarge({ asked, dice }) {
    retype(asked, 'application/json');
    // Now and then over the limit: it takes a while.
    asked.body = JSON.stringify({ name: 'x'.repeat(dice.percent(20) ? 300_000 : 200_000) });
    return {};
  },
  function anotherMethod({ asked, operation, dice }) {
    asked.method = dice.pick(methods.filter((method) => method !== operation.method));
    return { isDocumented: false };
  },
  function anotherPath({ asked, dice }) {
    asked.path = dice.pick(oddPaths)(asked.path);
    return { isDocumented: false };
  },
  function longQuery({ asked, dice }) {
    asked.query.push([dice.pick(['x', 'limit']), 'y'.repeat(dice.pick([100, 5_000, 20_000]))]);
    return {};
  },
  function manyHeaders({ asked, dice }) {
    for (let left = dice.pick([1, 50, 3_000]); left > 0; left--) asked.headers.push([`X-${left}`, 'y']);
    return {};
  },
  function oddHeader({ asked, dice }) {
    asked.headers.push(dice.pick(oddHeaders));
    return {};
  },
  function oddIdempotencyKey({ asked, dice }) {
    asked.headers.push(['Idempotency-Key', dice.pick(oddKeys)]);
    return {};
  },
  function oddCredential({ asked, dice, world }) {
    asked.headers = asked.headers.filter(([name]) => name !== 'Authorization');
    asked.headers.push(['Authorization', dice.pick(oddCredentials)(world.member)]);
    return {};
  },
  function fieldsTwice({ asked }) {
    // The last is meant (RFC 8259, §4, leaves it to the reader).
    const text = asked.body.toString();
    if (!text.startsWith('{"')) return {};
    asked.body = `${text.slice(0, -1)},${text.slice(1)}`;
    return { isRight: true };
  },
  function hugeNumbers({ asked, dice }) {
    asked.body = asked.body.toString().replace(/:\d+/, `:${dice.pick(hugeNumbersOfJson)}`);
    return {};
  },
  function noHost({ asked }) {
    asked.headers = asked.headers.filter(([name]) => name !== 'Host');
    return { isDocumented: false };
  },
  function chunks({ asked, dice }) {
    asked.headers.push(['Transfer-Encoding', 'chunked']);
    return { bytes: chunked(asked, dice), whole: false };
  },
  function anotherLength({ asked, dice }) {
    const bytes = bytesOf(asked, asked.body.length + dice.pick([-1, 1, 100, 1e9]));
    return { bytes, whole: false, isDocumented: false };
  },
  function httpThatIsNone({ asked, dice }) {
    const bytes = bytesOf(asked);
    const spoilt = mutated(bytes, dice, { dictionary: httpWords, donor: bytes, longest: 4_000 });
    return { bytes: spoilt, whole: false, isDocumented: false };
  },
  function twiceAtOnce({ asked }) {
    return { bytes: Buffer.concat([bytesOf(asked), bytesOf(asked)]), whole: false, isDocumented: false };
  },
  function anotherProtocol({ asked, dice }) {
    asked.headers.push(['Connection', 'upgrade'], ['Upgrade', dice.pick(['websocket', 'h2c', 'x'])]);
    if (dice.percent(50)) asked.headers.push(['Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ==']);
    asked.headers.push(['Sec-WebSocket-Version', dice.pick(['13', '8', 'x'])]);
    return { whole: false, isDocumented: false };
  },
];

function retype(asked: Asked, type: string): void {
  asked.headers = [...asked.headers.filter(([name]) => name !== 'Content-Type'), ['Content-Type', type]];
}

function nested(depth: number): unknown {
  let value: unknown = [];
  for (let left = depth; left > 0; left--) value = left % 2 === 0 ? [value] : { name: value };
  return value;
}

const oddJson: readonly ((text: string) => string | Buffer)[] = [
  () => '',
  () => 'null',
  () => '[]',
  () => '"text"',
  () => '1e400',
  () => '[['.repeat(40_000),
  () => '{"a":'.repeat(30_000),
  () => '{"__proto__":{"role":"operator"}}',
  () => '{"constructor":{"prototype":{"role":"operator"}}}',
  (text) => `\ufeff${text}`,
  (text) => `${text}${text}`,
  (text) => `/* */${text}`,
  (text) => text.replaceAll('"', "'"),
  (text) => Buffer.concat([Buffer.from(text), Buffer.from([0xff, 0xfe, 0x00])]),
  (text) => Buffer.from(text.replace(/"[a-z]/, '"\xff\xc3\x28'), 'latin1'),
  (text) => text.replace(/:"/, ':"\\ud800'),
  (text) => Buffer.from(text, 'utf16le'),
];

const oddTypes = [
  'text/plain',
  'application/xml',
  'multipart/form-data; boundary=x',
  'application/x-www-form-urlencoded',
  'application/zstd',
  'application/json; charset=utf-16',
  'application/jsonx',
  'APPLICATION/JSON',
  'application/json;;',
  '/',
  ';',
  'x'.repeat(1_000),
];

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'QUERY', 'LOCK'];

const oddPaths: readonly ((path: string) => string)[] = [
  (path) => `${path}/`,
  (path) => path.replace('/api', '//api'),
  (path) => path.replaceAll('a', '%61'),
  (path) => `${path}%00`,
  (path) => `${path}/../../../etc/passwd`,
  (path) => `${path}%2f..%2f..`,
  (path) => `${path}%zz`,
  (path) => `${path}%ff%fe`,
  (path) => `${path}/${'x'.repeat(3_000)}`,
  (path) => `${path};x=y`,
  (path) => `${path}#x`,
  (path) => path.toUpperCase(),
  (path) => `http://elsewhere.example${path}`,
  (path) => path.replace(/[^/]+$/, '__proto__'),
  () => '/docs/static/../../../etc/passwd',
  () => '/docs/static/%2e%2e/%2e%2e/package.json',
  () => '*',
];

const oddKeys = ['', ' ', '"', 'é', 'k'.repeat(256), 'k-1, k-2', '"8e03978e-40d5-43dd-bc93-6894a57f9324"'];

const hugeNumbersOfJson = ['1e400', '-1e400', '0.1e-999', '123456789012345678901234567890'];

const oddHeaders: readonly (readonly [string, string])[] = [
  ['Expect', '100-continue'],
  ['Expect', 'tea'],
  ['X-Forwarded-For', "'; drop table events; --"],
  ['X-Forwarded-Host', 'evil.example'],
  ['X-HTTP-Method-Override', 'DELETE'],
  ['Accept', 'application/xml'],
  ['Accept-Encoding', 'gzip;q=x'],
  ['Content-Encoding', 'gzip'],
  ['Range', 'bytes=5-1'],
  ['If-None-Match', '*'],
  ['Origin', 'null'],
  ['Host', 'twice.example'],
  ['Cookie', 'a=b; '.repeat(500)],
  ['Traceparent', '00-0-0-0'],
];

const oddCredentials: readonly ((key: string) => string)[] = [
  () => 'Bearer',
  () => 'Bearer ',
  () => `Bearer ${'x'.repeat(10_000)}`,
  (key) => `Bearer  ${key}`,
  (key) => `Bearer ${key} `,
  (key) => `Bearer ${key}, Bearer ${key}`,
  (key) => `Basic ${Buffer.from(`:${key}`).toString('base64')}`,
  (key) => `Bearer ${key.toUpperCase()}`,
  () => 'Bearer é☃'.replace('☃', '\x80'),
  () => "Bearer ' or 1=1 --",
];

const words = (texts: readonly string[]) => texts.map((text) => Buffer.from(text, 'latin1'));
const jsonWords = words([
  '{',
  '}',
  '[',
  ']',
  '"',
  ',',
  ':',
  '\\u0000',
  '\\ud800',
  '\\',
  '1e999',
  'null',
  '\xff',
  '"__proto__":',
]);
const httpWords = words([
  '\r\n',
  '\n',
  '\r\n\r\n',
  ': ',
  'Transfer-Encoding: chunked\r\n',
  'Content-Length: 5\r\n',
  'Content-Length: -1\r\n',
  'HTTP/2.0',
  '\0',
]);
