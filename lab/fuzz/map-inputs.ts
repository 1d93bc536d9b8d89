import { CHUNK_BYTES, seekTableLength, zeroFramesLength } from '../../images/zstd-frames.ts';
import { MOST_CHUNK_BYTES, formatChunkMap, layOut } from '../../images/chunk-map.ts';
import type { Part, Segment } from '../../images/chunk-map.ts';
import type { Dice } from './dice.ts';
import { mutated } from './mutate.ts';

export interface MapInput {
  readonly text: Buffer;
  /** What the order says that the disk has. */
  readonly raw: number;
}

/** A map as it should be, of up to 64 GiB. */
export function goodMap(dice: Dice): MapInput {
  const map = layOut(digest(dice), parts(dice));
  return { text: Buffer.from(formatChunkMap(map), 'latin1'), raw: map.rawBytes };
}

/** A right map, perhaps for another disk; one whose numbers fit each other and lie together; or one with fields, lines or bytes that do not belong there. */
export function hostileMap(dice: Dice): MapInput {
  const good = goodMap(dice);
  const raw = dice.percent(92) ? good.raw : dice.pick([0, 512, good.raw + 512, good.raw - 512, 2 ** 40]);
  switch (dice.below(10)) {
    case 0:
      return { ...good, raw };
    case 1:
    case 2:
      return lyingMap(dice);
    case 3:
    case 4:
      return { text: mutated(good.text, dice, { dictionary: WORDS, donor: good.text, longest: 20_000 }), raw };
    default:
      return { text: Buffer.from(spoilt(good.text.toString('latin1'), dice), 'latin1'), raw };
  }
}

function parts(dice: Dice): Part[] {
  const made: Part[] = Array.from({ length: 1 + dice.below(40) }, () =>
    dice.percent(60)
      ? chunk(dice, CHUNK_BYTES)
      : { kind: 'zeros', rawLength: CHUNK_BYTES * (1 + dice.below(dice.percent(80) ? 8 : 4_000)) },
  );
  const tail = 512 * (1 + dice.below(CHUNK_BYTES / 512 - 1));
  if (dice.percent(40)) made.push(dice.percent(50) ? chunk(dice, tail) : { kind: 'zeros', rawLength: tail });
  return made;
}

function chunk(dice: Dice, rawLength: number): Part {
  return {
    kind: 'chunk',
    rawLength,
    length: dice.percent(90) ? 1 + dice.below(MOST_CHUNK_BYTES) : MOST_CHUNK_BYTES,
    sha256: digest(dice),
  };
}

function digest(dice: Dice): string {
  return dice.bytes(32).toString('hex');
}

/** Each piece begins where the one before it ends, whatever its length. */
function lyingMap(dice: Dice): MapInput {
  let [rawOffset, offset] = [0, 0];
  const segments = Array.from({ length: 1 + dice.below(8) }, (): Segment => {
    const rawLength = dice.percent(60) ? CHUNK_BYTES : dice.pick(LENGTHS);
    const kind = dice.percent(50) ? 'zeros' : 'chunk';
    const rightLength = kind === 'zeros' ? zeroFramesLength(rawLength) : 141;
    const length = dice.percent(80) ? rightLength : dice.pick(LENGTHS);
    const at = { rawOffset, rawLength, offset, length };
    [rawOffset, offset] = [rawOffset + rawLength, offset + length];
    return kind === 'zeros' ? { kind, ...at } : { kind, ...at, sha256: digest(dice) };
  });
  const bytes = offset + seekTableLength(Math.ceil(rawOffset / CHUNK_BYTES));
  const text = formatChunkMap({ rawBytes: rawOffset, rawSha256: digest(dice), bytes, segments });
  return { text: Buffer.from(text, 'latin1'), raw: rawOffset };
}

const LENGTHS = [
  0,
  1,
  511,
  512,
  513,
  CHUNK_BYTES - 512,
  CHUNK_BYTES + 512,
  2 * CHUNK_BYTES,
  MOST_CHUNK_BYTES,
  MOST_CHUNK_BYTES + 1,
  2 ** 31,
  2 ** 32,
  2 ** 40,
];

function spoilt(text: string, dice: Dice): string {
  const lines = text.split('\n').slice(0, -1);
  for (let left = 1 + dice.below(2); left > 0; left--) {
    const at = dice.below(lines.length);
    const fields = (lines[at] ?? '').split(' ');
    switch (dice.below(8)) {
      case 0:
        lines.splice(at, 1);
        break;
      case 1:
        lines.splice(at, 0, dice.pick(lines));
        break;
      case 2:
        lines[at] = fields.join(dice.pick(BLANKS));
        break;
      case 3:
        lines[at] = `${lines[at] ?? ''}${dice.pick(ENDS)}`;
        break;
      default:
        fields[dice.below(fields.length)] = dice.percent(70) ? dice.pick(VALUES) : String(dice.pick(LENGTHS));
        lines[at] = fields.join(' ');
    }
  }
  return `${lines.join(dice.percent(97) ? '\n' : '\r\n')}${dice.percent(95) ? '\n' : ''}`;
}

const BLANKS = ['  ', '\t', ' \t', '\x0b', '\xa0', ','];
const ENDS = [' ', '\t', '\r', '\0', ' # comment', ' 0', '\n', '\n\n', ' "$(reboot)"', '\0 0'];
const VALUES = [
  ...[
    '',
    '0',
    '-0',
    '-1',
    '+512',
    '00',
    '0512',
    '0x200',
    '1e6',
    '4194304.0',
    'NaN',
    'inf',
    '9007199254740993',
    '9'.repeat(15),
    '9'.repeat(16),
  ],
  ...[
    '9'.repeat(400),
    '4294967296',
    '2147483648',
    'chunk',
    'zeros',
    'rackstart-chunk-map',
    '1',
    '2',
    '../../../etc/passwd',
    '$(reboot)',
    '`reboot`',
  ],
  ...[
    '0'.repeat(64),
    'A'.repeat(64),
    'f'.repeat(63),
    'f'.repeat(65),
    `${'f'.repeat(63)}/`,
    '*',
    '%s%n',
    '\\n',
    '&',
    '"',
    "'",
    ';',
  ],
];
const WORDS = ['\n', ' ', 'chunk ', 'zeros ', '4194304', '0', '\0', '\n\n', 'rackstart-chunk-map 1 '].map((word) =>
  Buffer.from(word),
);
