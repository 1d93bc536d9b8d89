import { test } from 'tap';

import { SECOND } from '../kernel/clock.ts';
import { hasCode } from '../kernel/errors.ts';
import { silentLog } from '../kernel/log.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import type { StepContext } from '../saga/step.ts';
import type { Bmc } from './bmc/bmc.ts';
import { eventsBefore } from './event-log.ts';

test('a BMC that does not tell of its event log is given up after three seconds, by a reason of ours', async (t) => {
  const clock = new ManualClock();
  let asked: AbortSignal | undefined;
  const silent = {
    newestEvent: (signal) => {
      asked = signal;
      return new Promise(() => undefined);
    },
  } as Partial<Bmc> as Bmc;
  const ctx = { clock, log: silentLog, signal: new AbortController().signal } as Partial<
    StepContext<unknown>
  > as StepContext<unknown>;
  const telling = eventsBefore(silent, ctx);
  await clock.advance(3 * SECOND - 1);
  t.notOk(asked?.aborted);
  await clock.advance(1);
  t.equal(await telling, undefined);
  t.ok(hasCode(asked?.reason, 'cancelled'));
});
