import type { Input } from './campaign.ts';
import { readCorpus } from './corpus.ts';
import type { Dice } from './dice.ts';
import { mutated } from './mutate.ts';
import type { Dictionary } from './mutate.ts';

/** What a client has heard of its transfer. */
export interface HeardTransfer {
  /** The server's port for it. */
  readonly port: number;
  /** The last block that came; 0 after an option acknowledgement. */
  readonly block: number;
}

export interface TftpInput {
  /** Which of the clients sends it. */
  readonly client: number;
  /** To port 69, or to a transfer. */
  readonly port: number;
  readonly bytes: Buffer;
}

/** A packet of one client: to port 69, to its own transfer, or to somebody else's. */
export function tftpInput(
  { dice, story, chapter }: Input,
  clients: number,
  heard: (client: number) => HeardTransfer | undefined,
): TftpInput {
  const client = story.below(clients);
  const asks = story.percent(60) ? chapter === 0 : dice.percent(40);
  const whose = dice.percent(85) ? client : dice.below(clients);
  const transfer = asks ? undefined : heard(whose);
  if (transfer === undefined) return { client, port: 69, bytes: atServer(dice) };
  return { client, port: transfer.port, bytes: atTransfer(dice, transfer.block) };
}

function atServer(dice: Dice): Buffer {
  if (dice.percent(8)) return dice.bytes(dice.length(600));
  if (dice.percent(25)) return spoilt(dice);
  const words = [dice.pick(names), dice.pick(modes)];
  for (let left = dice.below(6); left > 0; left--) words.push(anyCase(dice.pick(options), dice), dice.pick(values));
  const text = words.join('\0') + (dice.percent(90) ? '\0' : '');
  return Buffer.concat([Buffer.of(0, dice.percent(90) ? 1 : dice.below(8)), Buffer.from(text, 'latin1')]);
}

/** Mostly what a client would say next; else another block, an error, data, a request, noise. */
function atTransfer(dice: Dice, last: number): Buffer {
  if (dice.percent(55)) return block(4, last);
  switch (dice.below(8)) {
    case 0:
      return block(4, dice.below(0x1_0000));
    case 1:
      return block(4, last + dice.pick([-65, -1, 1, 2, 63, 64, 65, 0x8000]));
    case 2:
      return Buffer.concat([block(5, dice.below(9)), dice.bytes(dice.length(600)), Buffer.of(0)]);
    case 3:
      return Buffer.concat([block(3, last), dice.bytes(dice.length(512))]);
    case 4:
      return Buffer.concat([block(4, last), dice.bytes(1 + dice.below(8))]);
    case 5:
      return dice.bytes(dice.length(600));
    case 6:
      return atServer(dice);
    default:
      return spoilt(dice);
  }
}

function spoilt(dice: Dice): Buffer {
  return mutated(dice.pick(corpus).bytes, dice, { dictionary, donor: dice.pick(corpus).bytes, longest: 700 });
}

function block(opcode: number, number: number): Buffer {
  const bytes = Buffer.of(0, opcode, 0, 0);
  bytes.writeUInt16BE(number & 0xffff, 2);
  return bytes;
}

function anyCase(text: string, dice: Dice): string {
  return dice.percent(50)
    ? text
    : dice.percent(50)
      ? text.toUpperCase()
      : text.replace(/./, (char) => char.toUpperCase());
}

const served = ['snponly.efi', 'undionly.kpxe', 'empty'];
const names = [
  ...[...served, ...served, ...served],
  ...[
    '/snponly.efi',
    '\\boot\\snponly.efi',
    '../../etc/passwd',
    '..\\..\\boot.ini',
    '/',
    '.',
    '',
    'snponly.efi\xff',
    '__proto__',
  ],
  ...['%s%n', 'x'.repeat(490), '\x1b[2J', 'nothing'],
];
const modes = ['octet', 'octet', 'octet', 'octet', 'OCTET', 'netascii', 'NetASCII', 'mail', '', 'octet\xff'];
const options = ['blksize', 'tsize', 'timeout', 'windowsize', 'multicast', 'rollover', '', '__proto__'];
const values = [
  ...['0', '1', '7', '8', '512', '1432', '1468', '65464', '65465', '65536', '4294967296', '99999999999999999999'],
  ...['-1', '1.5', '1e3', '0x10', ' 8', '', '255', '20', '21', 'x', '\xff', '008'],
];
const corpus = readCorpus('tftp');
const dictionary: Dictionary = [...options, ...values, ...served, 'octet', '\0', '\0\0'].map((text) =>
  Buffer.from(`${text}\0`),
);
