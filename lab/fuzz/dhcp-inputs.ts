import type { Input } from './campaign.ts';
import type { Capture } from './corpus.ts';
import { readCorpus } from './corpus.ts';
import type { Dice } from './dice.ts';
import { mutated } from './mutate.ts';
import type { Dictionary } from './mutate.ts';
import { LEASES, SERVER } from './site.ts';

/** What a client learns from the server's answers, by its MAC: the address it was offered last. */
export type Heard = ReadonlyMap<string, string>;

/**
 * A datagram for port 67. A third is noise and real captures with changed bytes; the rest are messages of one client in no
 * sensible order, whose fields and options are right, wrong, cut, doubled or another client's.
 */
export function dhcpInput({ dice, story, chapter }: Input, heard: Heard): Buffer {
  const client = whoSpeaks(story);
  const capture = story.pick(corpus);
  if (dice.percent(6)) return dice.bytes(dice.below(LONGEST));
  if (dice.percent(30)) {
    const bytes = mutated(capture.bytes, dice, { dictionary, donor: dice.pick(corpus).bytes, longest: LONGEST });
    if (dice.percent(70) && bytes.length >= 34) bytes.write(client.mac, 28, 'hex');
    return bytes;
  }
  return message(client, capture, dice, chapter, heard);
}

interface Client {
  /** Hex. */
  readonly mac: string;
  readonly xid: number;
  readonly relay: string;
}

// Known machines are played as often as strangers.
function whoSpeaks(story: Dice): Client {
  const known = `5254007700${story.pick(['01', '02'])}`;
  const few = `5254007701${story.below(64).toString(16).padStart(2, '0')}`;
  const mac = story.pick([known, few, few, story.bytes(6).toString('hex')]);
  const relay = story.percent(65)
    ? NOBODY
    : story.pick([RELAY, RELAY, RELAY, RELAY, SERVER, '10.77.0.255', '10.78.0.1', BROADCAST]);
  return { mac, xid: story.below(2 ** 32), relay };
}

function message({ mac, xid, relay }: Client, capture: Capture, dice: Dice, chapter: number, heard: Heard): Buffer {
  const fixed = Buffer.from(capture.bytes.subarray(0, OPTIONS_AT));
  fixed.writeUInt32BE(xid + (dice.percent(5) ? 1 : 0) > 0xffff_ffff ? 0 : xid, 4);
  fixed.write(mac, 28, 'hex');
  const mine = heard.get(mac) ?? LEASES.first;
  const address = () =>
    dice.pick([mine, mine, mine, LEASES.last, '10.77.0.10', SERVER, '10.77.0.255', NOBODY, '8.8.8.8']);
  // DISCOVER and REQUEST most, in turn, so that sequences get somewhere; then everything else, servers' messages too.
  const type = dice.percent(60) ? (chapter % 2 === 0 ? 1 : 3) : dice.pick([3, 4, 7, 8, 2, 5, 6, 0, 9, 255]);
  writeAddress(fixed, 12, type === 1 || dice.percent(50) ? NOBODY : address());
  writeAddress(fixed, 24, relay);
  if (dice.percent(20)) fixed[10] = dice.below(256);
  if (dice.percent(3)) fixed[dice.below(28)] = dice.below(256);

  let options = optionsOf(capture).filter(([code]) => ![50, 53, 54].includes(code));
  options.unshift([53, Buffer.of(type)]);
  if (dice.percent(60)) options.push([50, addressBytes(address())]);
  if (dice.percent(60)) options.push([54, addressBytes(dice.pick([SERVER, SERVER, SERVER, '10.77.0.9', NOBODY]))]);
  if (relay !== NOBODY) options.push([82, dice.pick([agentInformation, dice.bytes(dice.length(255))])]);
  if (dice.percent(40)) options = spoilt(options, dice);
  const bytes = Buffer.concat([fixed, ...options.map((option) => encoded(option, dice)), Buffer.of(255)]);
  if (dice.percent(8)) overload(bytes, dice);
  return dice.percent(3) ? bytes.subarray(0, dice.below(bytes.length)) : bytes;
}

type Option = readonly [code: number, value: Buffer];

function spoilt(options: readonly Option[], dice: Dice): Option[] {
  const at = dice.below(options.length);
  const [code, value] = options[at]!;
  const [before, after] = [options.slice(0, at), options.slice(at + 1)];
  switch (dice.below(6)) {
    case 0:
      return [...before, ...after];
    case 1:
      return [...before, [code, value], [code, value], ...after];
    case 2:
      return [...before, [code, dice.bytes(dice.length(255))], ...after];
    case 3:
      return [...before, [code, value.subarray(0, dice.below(value.length + 1))], ...after];
    case 4:
      return [...before, [dice.pick(telling), dice.bytes(dice.length(255))], ...before.slice(0, 2), ...after];
    default:
      return [...after, ...before, [dice.below(256), value]];
  }
}

// Now and then a length that lies.
function encoded([code, value]: Option, dice: Dice): Buffer {
  const length = dice.percent(1) ? dice.below(256) : value.length;
  return Buffer.concat([Buffer.of(code, length), value]);
}

/** Option 52 in front: options go on in `file` and `sname` (RFC 2132 §9.3), which hold noise or options. */
function overload(bytes: Buffer, dice: Dice): void {
  if (bytes.length < OPTIONS_AT + 3) return;
  bytes.set([52, 1, dice.below(8)], OPTIONS_AT);
  for (const [from, to] of [
    [44, 108],
    [108, 236],
  ] as const) {
    if (dice.percent(50)) bytes.set(dice.bytes(to - from), from);
    else bytes.set(Buffer.concat([Buffer.of(12, 3), Buffer.from('abc'), Buffer.of(255)]), from);
  }
}

function optionsOf({ bytes }: Capture): Option[] {
  const options: Option[] = [];
  for (let at = OPTIONS_AT; at + 1 < bytes.length && bytes[at] !== 255;) {
    const [code, length] = [bytes[at]!, bytes[at + 1]!];
    if (code === 0) {
      at++;
      continue;
    }
    options.push([code, bytes.subarray(at + 2, at + 2 + length)]);
    at += 2 + length;
  }
  return options;
}

function writeAddress(bytes: Buffer, at: number, address: string): void {
  bytes.set(addressBytes(address), at);
}

function addressBytes(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number));
}

const LONGEST = 1_500;
const OPTIONS_AT = 240;
const NOBODY = '0.0.0.0';
const BROADCAST = '255.255.255.255';
/** The relay that is listed. */
export const RELAY = '10.77.0.250';
const agentInformation = Buffer.from('0104746573740204706f7274', 'hex');
const telling = [12, 43, 50, 52, 54, 55, 57, 60, 61, 77, 82, 93, 94, 97, 118, 175];

const corpus = readCorpus('dhcp');
const dictionary: Dictionary = [
  Buffer.from('63825363', 'hex'),
  Buffer.from('340103', 'hex'),
  Buffer.from('3501', 'hex'),
  Buffer.from('32040a4d0064', 'hex'),
  Buffer.from('36040a4d0001', 'hex'),
  Buffer.from('3d00ff', 'hex'),
  Buffer.from('5200', 'hex'),
  Buffer.from('390200ff', 'hex'),
  Buffer.from('PXEClient:Arch:00007:UNDI:003000'),
  Buffer.from('HTTPClient:Arch:00016'),
  Buffer.from('iPXE'),
  Buffer.alloc(64, 0),
];

/** A capture with this MAC, transaction and, where they are given, address and server. */
export function goodMessage(from: string, type: 1 | 3, mac: string, xid: number, address = NOBODY): Buffer {
  const what = type === 1 ? 'discover' : 'request';
  const capture = corpus.find((one) => one.from.startsWith(from) && one.what === what)!;
  const fixed = Buffer.from(capture.bytes.subarray(0, OPTIONS_AT));
  fixed.writeUInt32BE(xid, 4);
  fixed.write(mac, 28, 'hex');
  const options = optionsOf(capture).filter(([code]) => code !== 50 && code !== 54);
  if (type === 3) options.push([50, addressBytes(address)], [54, addressBytes(SERVER)]);
  const parts = options.map(([code, value]) => Buffer.concat([Buffer.of(code, value.length), value]));
  return Buffer.concat([fixed, ...parts, Buffer.of(255)]);
}
