import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';

import { test } from 'tap';

import type { Verdict } from './campaign.ts';
import { networkMissing } from './own-network.ts';

/** How many inputs a target gets in `npm test`; the run with `--fast` says less by RACKSTART_FUZZ_INPUTS. */
const INPUTS = 200_000;

/**
 * A test that a target comes through a campaign: nothing found, half of it through the socket, a good exchange every
 * 1,000, and each of `reached` reached, so that what was fed got past the door. A pattern stands for all that the target
 * counts by such a name; a shorter campaign does not come to them all. `most`: fewer inputs, where each takes long.
 */
export function fuzzTest(title: string, target: string, reached: readonly (string | RegExp)[], most = INPUTS): void {
  const inputs = Math.min(most, Number(process.env['RACKSTART_FUZZ_INPUTS'] ?? INPUTS));
  void test(`${inputs.toLocaleString('en')} ${title}`, { skip: networkMissing() ?? false }, async (t) => {
    const verdict = await campaign(target, inputs);
    t.same(verdict.findings, []);
    t.equal(verdict.inputs, inputs);
    t.ok(Math.abs(verdict.throughSocket - inputs / 2) <= inputs / 100, `${verdict.throughSocket} through the socket`);
    t.equal(verdict.exchanges, 1 + Math.ceil(inputs / 1_000));
    for (const what of reached) {
      if (what instanceof RegExp && inputs < most) continue;
      const fitting = what instanceof RegExp ? Object.keys(verdict.reached).filter((name) => what.test(name)) : [what];
      t.ok(fitting.length > 0, `something fits ${String(what)}`);
      t.same(
        fitting.filter((name) => !verdict.reached[name]),
        [],
        `${String(what)} is reached`,
      );
    }
    t.comment(JSON.stringify({ ...verdict, findings: undefined }));
  });
}

async function campaign(target: string, inputs: number): Promise<Verdict> {
  const argv = [join(import.meta.dirname, 'main.ts'), target, '--inputs', String(inputs)];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  return (await json(child.stdout)) as Verdict;
}
