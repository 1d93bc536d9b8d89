import type { Dice } from './dice.ts';

/** What a format has words for: a mutation puts them where they do not belong. */
export type Dictionary = readonly Buffer[];

/**
 * A copy with one to four changes: bits, bytes and words changed, parts cut, repeated, moved, grown, or taken from
 * `donor`. At most `longest` bytes.
 */
export function mutated(
  original: Buffer,
  dice: Dice,
  { dictionary, donor, longest }: { dictionary: Dictionary; donor: Buffer; longest: number },
): Buffer {
  let bytes: Buffer = Buffer.from(original);
  for (let left = 1 + dice.below(4); left > 0; left--) {
    const at = dice.below(bytes.length + 1);
    const end = at + dice.below(bytes.length - at + 1);
    const [before, part, after] = [bytes.subarray(0, at), bytes.subarray(at, end), bytes.subarray(end)];
    switch (dice.below(10)) {
      case 0:
        if (at < bytes.length) bytes[at]! ^= 1 << dice.below(8);
        break;
      case 1:
      case 2:
        if (at < bytes.length) bytes[at] = dice.percent(50) ? dice.pick(edges) : dice.below(256);
        break;
      case 3:
        if (at + 2 <= bytes.length) bytes.writeUInt16BE(dice.pick(wideEdges), at);
        break;
      case 4:
        bytes = before;
        break;
      case 5:
        bytes = Buffer.concat([before, after]);
        break;
      case 6:
        bytes = Buffer.concat([before, part, part, after]);
        break;
      case 7:
        bytes = Buffer.concat([before, dice.percent(50) ? dice.pick(dictionary) : dice.bytes(dice.length(64)), after]);
        break;
      case 8:
        bytes = Buffer.concat([before, dice.pick(dictionary)]);
        bytes = Buffer.concat([bytes, original.subarray(Math.min(bytes.length, original.length))]);
        break;
      default:
        bytes = Buffer.concat([before, donor.subarray(dice.below(donor.length + 1))]);
    }
    bytes = bytes.subarray(0, longest);
  }
  return bytes;
}

const edges = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff];
const wideEdges = [0x0000, 0x0001, 0x7fff, 0x8000, 0xfffe, 0xffff];
