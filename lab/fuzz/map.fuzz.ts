import { test } from 'tap';

import { run } from './campaign.ts';
import { openMap } from './map.ts';

/** Each takes a shell and two awks a few milliseconds. */
const INPUTS = 2_000;

void test(`${INPUTS.toLocaleString('en')} hostile chunk maps write nothing beyond their disk, and pass for what they say or not at all`, async (t) => {
  const inputs = Math.min(INPUTS, Number(process.env['RACKSTART_FUZZ_INPUTS'] ?? INPUTS));
  const verdict = await run('map', openMap, { seed: 1, inputs });
  t.same(verdict.findings, []);
  t.equal(verdict.inputs, inputs);
  for (const what of ['planned', 'refused', 'refused: of another disk'])
    t.ok((verdict.reached[what] ?? 0) > 0, `${what}: ${verdict.reached[what]}`);
  t.comment(JSON.stringify({ ...verdict, findings: undefined, throughSocket: undefined }));
});
