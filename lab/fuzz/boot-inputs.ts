import type { Input } from './campaign.ts';
import { readCorpus } from './corpus.ts';
import type { Dice } from './dice.ts';
import { mutated } from './mutate.ts';
import type { Dictionary } from './mutate.ts';

/** What a machine that boots has come to know; the words stand for it in the captures. */
export interface Secrets {
  readonly SCRIPTTOKEN: string;
  readonly CLAIMTOKEN: string;
  readonly BEARER: string;
  readonly SERVER: string;
  readonly mac: string;
  readonly uuid: string;
  readonly generation: number;
}

export interface BootInput {
  /** By TLS, or in the clear. */
  readonly secure: boolean;
  readonly bytes: Buffer;
  /** Whether it is one whole request; what is not has a connection of its own. */
  readonly whole: boolean;
  readonly head: boolean;
}

/**
 * A request of a machine that boots: in no sensible order, as another machine, with fields that are wrong, hostile, doubled
 * or missing; and what is no request at all.
 */
export function bootInput({ dice, story }: Input, secrets: readonly Secrets[], image: string): BootInput {
  const who = story.pick(secrets);
  const capture = dice.pick(requests);
  if (dice.percent(8)) return broken(capture, dice, who);
  const request = { ...capture, headers: [...capture.headers] };
  let body = filled(capture.body, dice, who);
  request.target = filled(capture.target, dice, who).replace(/[0-9a-f]{64}/, dice.percent(70) ? image : '0'.repeat(64));
  if (isForm(capture)) body = dice.percent(55) ? body : spoiltForm(body, dice);
  else if (body !== '' && dice.percent(45)) body = spoiltLines(body, dice);
  if (dice.percent(10)) request.target = spoiltTarget(request.target, dice);
  if (dice.percent(3)) request.method = dice.pick(methods);
  if (dice.percent(4)) body = mutatedText(body, dice);
  if (dice.percent(2)) request.headers.push(dice.pick(oddHeaders));
  if (dice.percent(1) && dice.percent(25))
    body = `${body}&x=${'x'.repeat(dice.pick([8_000, 64 * 1024, 70_000, 1_100_000]))}`;
  const headers = request.headers
    .map(([name, value]) => [name, name === 'Authorization' ? bearer(dice, who) : value] as const)
    .filter(([name]) => name !== 'Content-Length');
  if (dice.percent(3)) spoilHeader(headers, dice);
  if (body !== '' || request.method === 'POST') {
    headers.push(['Content-Length', String(Buffer.byteLength(body, 'latin1'))]);
  }
  const lines = [
    `${request.method} ${request.target} HTTP/1.1`,
    ...headers.map(([name, value]) => `${name}: ${value}`),
  ];
  const isBoot = /^\/(boot\/v1|agent)/.test(capture.target);
  return {
    secure: dice.percent(3) ? !isBoot : isBoot,
    bytes: Buffer.from(`${lines.map(oneLine).join('\r\n')}\r\n\r\n${body}`, 'latin1'),
    whole: true,
    head: request.method === 'HEAD',
  };
}

/** A body without a request around it: a form, an inspection or a log with something wrong. */
export function bodyInput(dice: Dice): string {
  if (dice.percent(10)) return structureInput(dice);
  const capture = dice.pick(bodies);
  const body = isForm(capture) ? spoiltForm(capture.body, dice) : spoiltLines(capture.body, dice);
  return dice.percent(40) ? mutatedText(body, dice) : body;
}

/** An inspection with something in it that firmware or a switch has made, changed byte by byte. */
function structureInput(dice: Dice): string {
  const { name, bytes } = dice.pick(structures);
  const around = { dictionary, donor: dice.pick(structures).bytes, longest: 1_500 };
  return `${inspection}${name}${mutated(bytes, dice, around).toString('hex')}\n`;
}

interface Request {
  method: string;
  target: string;
  headers: (readonly [name: string, value: string])[];
  readonly body: string;
}

// Most of what is wrong here ends the connection, and the next one takes a handshake.
function spoilHeader(headers: (readonly [name: string, value: string])[], dice: Dice): void {
  const at = dice.below(headers.length);
  const [name] = headers[at]!;
  if (dice.percent(50)) headers.splice(at, 1);
  else headers[at] = [name, dice.pick(hostile)];
}

function broken(capture: Request, dice: Dice, who: Secrets): BootInput {
  const lines = capture.headers.map(([name, value]) => `${name}: ${filled(value, dice, who)}`);
  const text = [`${capture.method} ${capture.target} HTTP/1.1`, ...lines, '', capture.body].join('\r\n');
  const around = { dictionary, donor: dice.pick(raw), longest: 20_000 };
  const whole = Buffer.from(filled(text, dice, who), 'latin1');
  const bytes = dice.percent(15) ? dice.bytes(dice.length(400)) : mutated(whole, dice, around);
  // A connection by TLS costs as much as twenty requests.
  return { secure: dice.percent(2), bytes, whole: false, head: false };
}

function filled(text: string, dice: Dice, who: Secrets): string {
  return text
    .replaceAll('52:54:00:77:00:01', who.mac)
    .replaceAll('52%3A54%3A00%3A77%3A00%3A01', who.mac.replaceAll(':', '%3A'))
    .replaceAll('52-54-00-77-00-01', who.mac.replaceAll(':', '-'))
    .replaceAll('12345678-9abc-4ef0-8122-334455667788', who.uuid)
    .replaceAll(/generation=7/g, `generation=${dice.percent(85) ? who.generation : dice.pick(numbers)}`)
    .replaceAll(/SCRIPTTOKEN|CLAIMTOKEN|BEARER|SERVER/g, (name) =>
      dice.percent(60) ? who[name as 'BEARER'] : dice.pick(wrongTokens),
    );
}

function bearer(dice: Dice, who: Secrets): string {
  return dice.percent(88)
    ? `Bearer ${who.BEARER}`
    : dice.pick(['', 'Bearer', 'Basic eDp4', ...wrongTokens.map((one) => `Bearer ${one}`)]);
}

function spoiltForm(body: string, dice: Dice): string {
  const fields = body.split('&');
  for (let left = 1 + dice.below(2); left > 0; left--) {
    const at = dice.below(fields.length);
    const [name = ''] = (fields[at] ?? '').split('=');
    const value = encodeURIComponent(dice.pick(hostile).toWellFormed());
    switch (dice.below(6)) {
      case 0:
        fields.splice(at, 1);
        break;
      case 1:
        fields.push(fields[at] ?? '');
        break;
      case 2:
        fields.push(`${dice.pick(oddNames)}=${value}`);
        break;
      case 3:
        fields[at] = `${name}=${dice.pick(hostile)}`;
        break;
      case 4:
        fields[at] = `${name}=${dice.pick([...numbers, ...words])}`;
        break;
      default:
        fields[at] = `${name}=${value}`;
    }
  }
  return fields.join('&');
}

function spoiltLines(body: string, dice: Dice): string {
  const lines = body.split('\n');
  for (let left = 1 + dice.below(2); left > 0; left--) {
    const at = dice.below(lines.length);
    const parts = (lines[at] ?? '').split('|');
    const part = dice.below(parts.length);
    switch (dice.below(4)) {
      case 0:
        lines.splice(at, 1);
        break;
      case 1:
        lines.push(...Array<string>(dice.pick([1, 1, 2, 600])).fill(lines[at] ?? ''));
        break;
      case 2:
        lines.push(dice.pick(oddLines));
        break;
      default:
        parts[part] = dice.pick([...hostile, ...numbers]);
        lines[at] = parts.join('|');
    }
  }
  return lines.join('\n');
}

function spoiltTarget(target: string, dice: Dice): string {
  const odd = encodeURI(dice.pick(hostile).toWellFormed());
  return dice.pick([
    ...[
      `${target}${odd}`,
      `${target}?token=${odd}`,
      `${target}&token=a&token=b`,
      target.slice(0, dice.below(target.length + 1)),
    ],
    ...[
      '/',
      '//',
      '/../../etc/passwd',
      '/image/%2e%2e%2f%2e%2e',
      '/boot/%00',
      '/loader/..%2fx',
      '/loader/snponly.efi',
      '*',
      '/%',
    ],
    ...['/boot/v1/next?generation=1&generation=2', '/boot/v1/next?__proto__=1', `/${'a'.repeat(7_000)}`],
  ]);
}

function mutatedText(text: string, dice: Dice): string {
  const around = { dictionary, donor: dice.pick(raw), longest: 20_000 };
  return mutated(Buffer.from(text, 'latin1'), dice, around).toString('latin1');
}

function isForm({ headers }: Request): boolean {
  return headers.some(([, value]) => value === 'application/x-www-form-urlencoded');
}

// What would end a line of the head is left to the broken ones.
function oneLine(text: string): string {
  return text.replace(/[\r\n\0]/g, ' ');
}

function parse(bytes: Buffer): Request {
  const [head = '', ...rest] = bytes.toString('latin1').split('\r\n\r\n');
  const [first = '', ...lines] = head.split('\r\n');
  const [method = '', target = ''] = first.split(' ');
  const headers = lines.map((line): [string, string] => {
    const [name = '', ...value] = line.split(': ');
    return [name, value.join(': ')];
  });
  return { method, target, headers, body: rest.join('\r\n\r\n') };
}

const corpus = readCorpus('http');
const raw = corpus.map(({ bytes }) => bytes);
const requests = raw.map(parse);
const bodies = requests.filter(({ body }) => body !== '');
const inspection = bodies.find(({ target }) => target === '/boot/v1/inspection')!.body;
const structures = [
  // A switch sw-7, by its MAC, at its port eth3.
  {
    name: 'lldp=eth0|',
    bytes: Buffer.from('0180c200000e52540077000188cc02070452540077000104050565746833060200780a0473772d370000', 'hex'),
  },
  // SMBIOS, type 17: 1 GiB in DIMM 0, by QEMU.
  {
    name: 'memory_device=',
    bytes: Buffer.from(
      `1128001100100000ffffffff00040900010007020000000200${'00'.repeat(15)}44494d4d20300051454d550000`,
      'hex',
    ),
  },
];
const methods = ['GET', 'POST', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE', 'PROPFIND', 'M-SEARCH'];
const numbers = [
  '0',
  '1',
  '-1',
  '999999999',
  '9999999999',
  '1e9',
  '0x10',
  '1.5',
  '.5',
  '١',
  '',
  '00000000000000000001',
  'NaN',
];
const words = [
  'install',
  'wipe',
  'started',
  'done',
  'failed',
  'progress',
  'inspect',
  'image',
  'kexec',
  'inject',
  '2',
  'ssh-rsa AAAA',
];
const wrongTokens = [
  '',
  'x',
  'boot_1.x',
  `boot_${'0'.repeat(26)}.${'A'.repeat(43)}`,
  'a'.repeat(300),
  '../..',
  'null',
  '__proto__',
];
const hostile = [
  ...[
    '',
    ' ',
    '\0',
    '\r\nX: y',
    '%00',
    '%',
    '%ff',
    '\x1b[2J',
    '\u2028',
    '\ud800',
    '💥',
    'ÿþ',
    "'; drop table machines; --",
    '${x}',
    '`id`',
  ],
  ...[
    '$(id)',
    '{{x}}',
    '<script>',
    '../../..',
    '__proto__',
    'constructor',
    'toString',
    'a'.repeat(1_024),
    'a'.repeat(5_000),
  ],
  ...['52:54:00:77:00:02', '00:00:00:00:00:00', 'ff:ff:ff:ff:ff:ff', '{"a":1}', '[]', 'true', 'a&b=c', 'a=b'],
];
const oddNames = [
  '__proto__',
  'constructor',
  'a',
  'A',
  'x'.repeat(40),
  '',
  '%00',
  'toString',
  'reason',
  'hasOwnProperty',
];
const oddLines = [
  ...[
    '',
    'nic=eth1|52:54:00:77:00:02|up|1000',
    'nic=ib0|80:00:02:08:fe:80|up|',
    'nic=eth0|ff:ff:ff:ff:ff:ff|up|1',
    'disk=||||',
  ],
  ...[
    'bmc_address=10.0.0.1',
    'firmware_date=02/30/2015',
    'memory_device=11',
    'lldp=eth0|88cc',
    'disk=sda|1|ssd|s|m|255',
  ],
  ...['disk=sda|999999999999999|nvme|s|m', 'disk=vda|1|ssd|x|y', 'cores=99999', '__proto__=1', 'x'.repeat(600), '='],
];
const oddHeaders: (readonly [string, string])[] = [
  ...([
    ['Transfer-Encoding', 'chunked'],
    ['Content-Length', '5'],
    ['Expect', '100-continue'],
    ['Upgrade', 'websocket'],
  ] as const),
  ...([
    ['Content-Encoding', 'gzip'],
    ['Range', 'bytes=0-0,1-1'],
    ['Range', 'bytes=-99999999999999999999'],
    ['Range', 'bytes=5-2'],
  ] as const),
  ...([
    ['Range', 'bytes=99999999-'],
    ['If-Range', '""'],
    ['Host', 'evil'],
    ['Connection', 'close'],
    ['X', 'y'.repeat(9_000)],
  ] as const),
  ...([
    ['Content-Type', 'application/json'],
    ['Content-Type', 'text/plain; charset=\xff'],
    ['Accept', '\x80'],
  ] as const),
];
const dictionary: Dictionary = [
  ...[
    '\r\n',
    '\r\n\r\n',
    '\n',
    '\0',
    ': ',
    ' HTTP/1.1',
    ' HTTP/9.9',
    'Content-Length: 99999\r\n',
    'Content-Length: -1\r\n',
    'Host: x\r\n',
  ],
  ...[
    'Transfer-Encoding: chunked\r\n',
    '0\r\n\r\n',
    'ffffffff\r\n',
    'GET / HTTP/1.1\r\n\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    '\x16\x03\x01',
  ],
  ...['Connection: Upgrade\r\nUpgrade: h2c\r\n', 'CONNECT x:1 HTTP/1.1\r\n\r\n', '%00', '&', '='],
].map((text) => Buffer.from(text, 'latin1'));
