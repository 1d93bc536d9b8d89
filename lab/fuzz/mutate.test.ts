import { test } from 'tap';

import { Dice } from './dice.ts';
import { mutated } from './mutate.ts';

test('a mutation is another packet, of no more than the longest, and leaves the original alone', async (t) => {
  const original = Buffer.from('0123456789abcdef'.repeat(8));
  const copy = Buffer.from(original);
  const around = { dictionary: [Buffer.from('word')], donor: Buffer.from('donor'.repeat(40)), longest: 150 };
  const seen = new Set<string>();
  let lengths = 0;
  for (let round = 0; round < 2_000; round++) {
    const bytes = mutated(original, new Dice('mutate', round), around);
    seen.add(bytes.toString('hex'));
    if (bytes.length !== original.length) lengths++;
    if (bytes.length > 150) t.fail(`${bytes.length} bytes`);
  }
  t.ok(original.equals(copy));
  t.ok(seen.size > 1_800, `${seen.size} of 2,000 differ from each other`);
  t.ok(lengths > 500 && lengths < 1_900, `${lengths} of 2,000 have another length`);
  t.ok(
    [...seen].some((hex) => hex.includes(Buffer.from('word').toString('hex'))),
    'words of the dictionary come up',
  );
});

test('dice are even, and the same for the same key', async (t) => {
  const faces = Array.from({ length: 6 }, () => 0);
  const dice = new Dice('even', 1);
  for (let round = 0; round < 6_000; round++) faces[dice.below(6)]!++;
  for (const count of faces) t.ok(count > 850 && count < 1_150, String(count));
  t.same(new Dice('a', 1).bytes(16), new Dice('a', 1).bytes(16));
  t.notSame(new Dice('a', 1).bytes(16), new Dice('a', 2).bytes(16));
});
