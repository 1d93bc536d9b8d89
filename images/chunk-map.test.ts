import { createHash } from 'node:crypto';

import { test } from 'tap';

import type { Part } from './chunk-map.ts';
import { MOST_CHUNK_BYTES, chunkMapDigest, formatChunkMap, frames, layOut, parseChunkMap } from './chunk-map.ts';
import { CHUNK_BYTES } from './zstd-frames.ts';

const [raw, a, b] = ['raw', 'a', 'b'].map((text) => createHash('sha256').update(text).digest('hex')) as [
  string,
  string,
  string,
];
const whole = (sha256: string, length: number): Part => ({ kind: 'chunk', rawLength: CHUNK_BYTES, length, sha256 });
const zeros = (rawLength = CHUNK_BYTES): Part => ({ kind: 'zeros', rawLength });
const parts: Part[] = [
  whole(a, 1000),
  zeros(),
  zeros(),
  whole(b, 2000),
  whole(a, 1000),
  { kind: 'chunk', rawLength: 1024, length: 30, sha256: b },
];
const text = formatChunkMap(layOut(raw, parts));

test('a map is text with one line a segment, and reads back as what was written', async (t) => {
  t.equal(
    text,
    [
      `rackstart-chunk-map 1 20972544 ${raw} 4377`,
      `chunk 0 4194304 0 1000 ${a}`,
      'zeros 4194304 8388608 1000 282',
      `chunk 12582912 4194304 1282 2000 ${b}`,
      `chunk 16777216 4194304 3282 1000 ${a}`,
      `chunk 20971520 1024 4282 30 ${b}`,
      '',
    ].join('\n'),
  );
  t.same(parseChunkMap(text), layOut(raw, parts));
  t.equal(chunkMapDigest(text), createHash('sha256').update(text).digest('hex'));
});

test('the frames of a map are those of its whole file, in order', async (t) => {
  const found = [...frames(layOut(raw, parts))];
  t.same(
    found.map(({ length }) => length),
    [1000, 141, 141, 2000, 1000, 30],
  );
  t.same(
    found.map(({ rawLength }) => rawLength),
    [...Array<number>(5).fill(CHUNK_BYTES), 1024],
  );
});

test('a disk of zeros alone, its end no whole chunk, is one segment', async (t) => {
  const map = layOut(raw, [zeros(3 * CHUNK_BYTES), zeros(512)]);
  t.equal(map.segments.length, 1);
  t.equal(map.rawBytes, 3 * CHUNK_BYTES + 512);
  t.same(parseChunkMap(formatChunkMap(map)), map);
});

const refused: readonly [string, string][] = [
  ['that is empty', ''],
  ['of another version', text.replace('map 1', 'map 2')],
  ['of no segment', `rackstart-chunk-map 1 0 ${raw} 17\n`],
  ['that is cut in a line', text.slice(0, -5)],
  ['that lost its last newline', text.slice(0, -1)],
  ['that lost a line', text.replace(/^zeros.*\n/m, '')],
  ['with a line twice', text.replace(/^(chunk 0 .*\n)/m, '$1$1')],
  ['with something behind it', `${text}\n`],
  ['with lines as Windows ends them', text.replaceAll('\n', '\r\n')],
  ['that tells another raw size', text.replace('20972544', '20972545')],
  ['that tells another size', text.replace('4377', '4378')],
  ['with a segment elsewhere on the disk', text.replace('chunk 12582912', 'chunk 12582913')],
  ['with a segment elsewhere in the file', text.replace('1282 2000', '1283 2000')],
  ['with zeros of another compressed length', text.replace('1000 282', '1000 289')],
  [
    'with zeros in two lines',
    text.replace(/^zeros.*$/m, 'zeros 4194304 4194304 1000 141\nzeros 8388608 4194304 1141 141'),
  ],
  ['with a number that begins with 0', text.replace('chunk 0 4194304', 'chunk 00 4194304')],
  ['with a digest in capitals', text.replaceAll(a, a.toUpperCase())],
  ['with a number below zero', text.replace('1282 2000', '1282 -2000')],
  ['with a path for a digest', text.replace(b, '../'.repeat(21) + 'x')],
];
for (const [title, changed] of refused) {
  test(`a map ${title} is refused`, async (t) => {
    t.not(changed, text, 'it was changed');
    t.throws(() => parseChunkMap(changed), { code: 'image.invalid' });
  });
}

const impossible: readonly [string, Part[]][] = [
  ['a chunk that is too long', [{ kind: 'chunk', rawLength: CHUNK_BYTES + 512, length: 9, sha256: a }]],
  ['a chunk that grew in compression', [whole(a, MOST_CHUNK_BYTES + 1)]],
  ['a chunk of no byte', [whole(a, 0)]],
  ['a disk with half a sector', [{ kind: 'chunk', rawLength: 1000, length: 9, sha256: a }]],
  ['a short chunk before another', [{ kind: 'chunk', rawLength: 512, length: 9, sha256: a }, zeros()]],
  ['short zeros before a chunk', [zeros(512), whole(a, 9)]],
  ['zeros of more bytes than can be counted', [zeros(2 ** 60)]],
  ['zeros of no byte', [zeros(0)]],
];
for (const [title, impossibleParts] of impossible) {
  test(`${title} has no place in a map`, async (t) => {
    t.throws(() => layOut(raw, impossibleParts), { code: 'image.invalid' });
  });
}
