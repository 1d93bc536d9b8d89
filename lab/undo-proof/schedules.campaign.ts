import { join } from 'node:path';
import { test } from 'tap';

import { run } from '../process/run.ts';
import { showInReport } from '../test/report-file.ts';
import { choices } from './cases.ts';
import { runSchedule } from './schedule.ts';
import { siteTemplate } from './site.ts';

const SCHEDULES = 2_000;
/** Side by side, a process each. */
const SHARES = 2;
const WITHIN_MS = 9.5 * 60_000;

interface Share {
  readonly run: number;
  readonly ends: Readonly<Record<string, number>>;
}

test(`after each of ${String(SCHEDULES)} random histories everything has ended, and nothing is left`, async (t) => {
  t.setTimeout(WITHIN_MS);
  const began = performance.now();
  const size = SCHEDULES / SHARES;
  const ranges = Array.from(
    { length: SHARES },
    (_, index) => `${String(index * size + 1)}-${String((index + 1) * size)}`,
  );
  const shares = await Promise.all(ranges.map(schedules));
  const seconds = (performance.now() - began) / 1_000;
  t.equal(shares.reduce((all, share) => all + share.run, 0), SCHEDULES); // prettier-ignore
  const ends = (state: string) => shares.reduce((all, share) => all + (share.ends[state] ?? 0), 0);
  t.ok(
    ends('deprovisioned') > SCHEDULES / 10,
    `${String(ends('deprovisioned'))} servers were there, and were released`,
  );
  t.ok(ends('rolled-back') > SCHEDULES / 10, `${String(ends('rolled-back'))} requests were undone`);
  showInReport(
    `Random schedules: ${String(SCHEDULES)} (${(SCHEDULES / seconds).toFixed(0)}/s), ` +
      `${String(ends('deprovisioned'))} servers released, ${String(ends('rolled-back'))} requests undone, nothing left.`,
  );
});

test('a random history is the same whenever it is run again', async (t) => {
  t.setTimeout(WITHIN_MS);
  const template = await siteTemplate(2);
  t.teardown(() => template.remove());
  for (const seed of ['1', '2', '3', '4', '5']) {
    const { told } = await runSchedule(template, choices, seed);
    t.strictSame((await runSchedule(template, choices, seed)).told, told, `seed ${seed}`);
  }
});

/** Rejects, and says which seeds failed and how to repeat them, when one did. */
async function schedules(range: string): Promise<Share> {
  const program = join(import.meta.dirname, 'main.ts');
  const args = ['--schedules', range, '--json'];
  return JSON.parse(await run([process.execPath, program, ...args], { withinMs: WITHIN_MS })) as Share;
}
