import type { Dice } from './dice.ts';
import { readCorpus } from './corpus.ts';
import { mutated } from './mutate.ts';
import type { Dictionary } from './mutate.ts';

/** Packets that a BMC may send in place of, or before, a right answer: noise, captures, and the answer itself, changed. */
export function hostilePackets(dice: Dice, answer: Buffer, count: number): Buffer[] {
  return Array.from({ length: count }, () => hostilePacket(dice, answer));
}

export function hostilePacket(dice: Dice, answer: Buffer): Buffer {
  if (dice.percent(8)) return dice.bytes(dice.length(LONGEST));
  const capture = dice.pick(corpus).bytes;
  const around = { dictionary, donor: capture, longest: LONGEST };
  if (dice.percent(20)) return mutated(capture, dice, around);
  if (dice.percent(55) || answer.length < 17) return mutated(answer, dice, around);
  return retold(answer, dice, capture);
}

/** The answer with another payload type, session, number or length in its header (IPMI 2.0 §13.6), or another's payload. */
function retold(answer: Buffer, dice: Dice, capture: Buffer): Buffer {
  const bytes = Buffer.from(answer);
  switch (dice.below(7)) {
    case 0:
      bytes[5] = dice.pick([0x00, 0x11, 0x13, 0x15, 0x40, 0x80, 0xc0, 0xc1, 0x20, dice.below(256)]);
      return bytes;
    case 1:
      bytes.writeUInt32LE(dice.pick([0, 1, 0xffff_ffff, dice.below(2 ** 32)]), 6);
      return bytes;
    case 2:
      bytes.writeUInt32LE((bytes.readUInt32LE(10) + dice.pick([-33, -32, -1, 0, 1, 2, 1_000])) >>> 0, 10);
      return bytes;
    case 3:
      bytes.writeUInt16LE(dice.pick([0, 1, 15, 16, 17, bytes.length, 0xffff, dice.below(0x1_0000)]), 14);
      return bytes;
    case 4:
      // A status code of §13.24 where a login answer has one.
      if (bytes.length > 17) bytes[17] = dice.below(0x20);
      return bytes;
    case 5:
      return Buffer.concat([bytes.subarray(0, 16), capture.subarray(16)]);
    default:
      return Buffer.concat([bytes.subarray(0, dice.below(bytes.length)), dice.bytes(dice.length(64))]);
  }
}

const LONGEST = 1_000;
const corpus = readCorpus('rmcp');
const dictionary: Dictionary = [
  ...[
    '0600ff07',
    '0600ff06',
    '0600ff0706c0',
    '000011be',
    '0600ff0706110000',
    '81',
    '811c63',
    '2018c8',
    '00',
    'ff',
    'c0',
  ],
  ...['0102030405060708090a0b0c0d0e0f0f', '10000000', 'ffffffff', '0000ffff', '0207', 'ffff0207'],
].map((hex) => Buffer.from(hex, 'hex'));
