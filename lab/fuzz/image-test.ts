import { test } from 'tap';

import { run } from './campaign.ts';
import { imageTarget } from './image.ts';
import type { ImageKind } from './image-inputs.ts';

/** How many inputs each gets in `npm test`; the run with `--fast` says less by RACKSTART_FUZZ_INPUTS. */
const INPUTS = 100_000;

/** A test that a reader of images comes through a campaign; each of `reached` is an outcome that some inputs had. */
export function imageFuzzTest(title: string, kind: ImageKind, reached: readonly string[]): void {
  const inputs = Math.min(INPUTS, Number(process.env['RACKSTART_FUZZ_INPUTS'] ?? INPUTS));
  void test(`${inputs.toLocaleString('en')} ${title}`, async (t) => {
    const verdict = await run(`image-${kind}`, imageTarget(kind), { seed: 1, inputs });
    t.same(verdict.findings, []);
    t.equal(verdict.inputs, inputs);
    for (const what of reached) t.ok((verdict.reached[what] ?? 0) > 0, `${what}: ${verdict.reached[what]}`);
    t.comment(JSON.stringify({ ...verdict, findings: undefined, throughSocket: undefined }));
  });
}
