import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';

import { crc32c } from '../../images/ingest/crc32c.ts';
import type { Dice } from './dice.ts';
import { mutated } from './mutate.ts';
import type { Piece } from './sparse-image.ts';
import { SparseImage } from './sparse-image.ts';

/** A format of an image file, or a kind of partition table on a raw disk. */
export type ImageKind = 'qcow2' | 'vmdk' | 'vhdx' | 'gpt' | 'mbr';

export interface RecordedImage {
  readonly kind: ImageKind;
  readonly what: string;
  /** Bytes of the disk in it. */
  readonly disk: number;
  readonly image: SparseImage;
}

/** Images that qemu-img, and disks that sfdisk and the tools of file systems made: where they are not zero. */
export function recordedImages(kind: ImageKind): readonly RecordedImage[] {
  const text = readFileSync(join(import.meta.dirname, 'corpus', 'image.json'), 'utf8');
  return (JSON.parse(text) as Recorded[])
    .filter(({ format }) => format === kind)
    .map(({ what, disk, bytes, pieces }) => {
      const parts = pieces.map(({ at, hex }) => ({ at, bytes: Buffer.from(hex, 'hex') }));
      return { kind, what, disk, image: new SparseImage(bytes, parts) };
    });
}

/**
 * A copy with one to three changes: a field set to a number that is at an edge, a piece changed as packets are, the file cut or
 * grown. Half of those under checksums are signed again, so that what is wrong with them is all that is wrong.
 */
export function hostileImage({ kind, image: original }: RecordedImage, dice: Dice): SparseImage {
  let image = original;
  for (let left = 1 + dice.below(3); left > 0; left--) {
    switch (dice.below(8)) {
      case 0:
        image = new SparseImage(
          dice.pick([0, 1, 511, 512, 513, 4096, 65_536, dice.below(image.size + 1), image.size * 2]),
          image.pieces,
        );
        break;
      case 1:
      case 2:
        image = replaced(image, dice, (piece) => mangled(piece, dice));
        break;
      case 3:
        image = image.with({ at: dice.pick(image.pieces).at, bytes: dice.pick(original.pieces).bytes });
        break;
      default:
        image = image.with(edge(image, dice));
    }
  }
  return dice.percent(50) ? signed(kind, image) : image;
}

interface Recorded {
  readonly what: string;
  readonly format: ImageKind;
  readonly disk: number;
  readonly bytes: number;
  readonly pieces: readonly { readonly at: number; readonly hex: string }[];
}

function replaced(image: SparseImage, dice: Dice, change: (piece: Piece) => Piece): SparseImage {
  const chosen = dice.pick(image.pieces);
  const pieces = image.pieces.map((piece) => (piece === chosen ? change(piece) : piece));
  return new SparseImage(image.size, pieces);
}

function mangled({ at, bytes }: Piece, dice: Dice): Piece {
  return { at, bytes: mutated(bytes, dice, { dictionary: WORDS, donor: bytes, longest: 2 * bytes.length + 64 }) };
}

/** A whole field, where a field may be. */
function edge(image: SparseImage, dice: Dice): Piece {
  const piece = dice.pick(image.pieces);
  const at = piece.at + dice.below(Math.ceil(piece.bytes.length / 2)) * 2;
  const value = dice.pick([...EDGES, BigInt(image.size), BigInt(image.size) / 512n, BigInt(dice.below(2 ** 31))]);
  const bytes = Buffer.alloc(dice.pick([2, 4, 8]));
  for (let index = 0; index < bytes.length; index++) bytes[index] = Number((value >> BigInt(8 * index)) & 0xffn);
  return { at, bytes: dice.percent(50) ? bytes : bytes.reverse() };
}

const EDGES = [0, 1, 7, 8, 15, 16, 31, 32, 53, 63, 64].flatMap((bits) => [2n ** BigInt(bits) - 1n, 2n ** BigInt(bits)]);
const WORDS = [
  '/etc/passwd',
  'RW 20480 FLAT "/etc/passwd" 0\n',
  'RW 1 SPARSE "other.vmdk"\n',
  'parentFileNameHint="/etc/passwd"\n',
  'parentCID=00000000\n',
  'DATA',
  'EFI PART',
  'KDMV',
  'QFI\xfb',
  '\0'.repeat(64),
].map((word) => Buffer.from(word, 'latin1'));

function signed(kind: ImageKind, image: SparseImage): SparseImage {
  const repairs = { gpt: signedGpt, vhdx: signedVhdx, mbr: same, qcow2: same, vmdk: same } as const;
  return repairs[kind](image);
}

function same(image: SparseImage): SparseImage {
  return image;
}

/** Both headers, the second where the first says it is, and the entries where each says they are. */
function signedGpt(image: SparseImage): SparseImage {
  let whole = image;
  for (const which of ['first', 'second']) {
    const at = which === 'first' ? 512 : Number(whole.read(512 + 32, 8).readBigUInt64LE()) * 512;
    if (!(at + 512 <= whole.size)) return whole;
    const header = whole.read(at, 512);
    const entries = {
      at: Number(header.readBigUInt64LE(72)) * 512,
      length: header.readUInt32LE(80) * header.readUInt32LE(84),
    };
    if (entries.length <= 65_536) header.writeUInt32LE(crc32(whole.read(entries.at, entries.length)), 88);
    header.writeUInt32LE(0, 16);
    header.writeUInt32LE(crc32(header.subarray(0, Math.min(512, header.readUInt32LE(12)))), 16);
    whole = whole.with({ at, bytes: header.subarray(0, 92) });
  }
  return whole;
}

function signedVhdx(image: SparseImage): SparseImage {
  const parts = [65_536, 131_072, 196_608].map((at): Piece => {
    const structure = image.read(at, at === 196_608 ? 65_536 : 4096);
    structure.writeUInt32LE(0, 4);
    const checksum = Buffer.alloc(4);
    checksum.writeUInt32LE(crc32c(structure));
    return { at: at + 4, bytes: checksum };
  });
  return image.with(...parts);
}
