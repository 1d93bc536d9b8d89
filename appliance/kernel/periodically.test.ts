import { test } from 'tap';

import { SECOND } from './clock.ts';
import type { Millis } from './clock.ts';
import { RackstartError } from './errors.ts';
import type { Log } from './log.ts';
import { silentLog } from './log.ts';
import { ManualClock } from './manual-clock.ts';
import { periodically } from './periodically.ts';

test('the first look is at once, each other one a period after the end of the one before', async (t) => {
  const { clock, begin, looks, stop, signal } = rig();
  await begin(() => clock.sleepUntil(clock.now() + SECOND, signal));
  t.same(looks, [0]);
  await clock.advance(22 * SECOND);
  t.same(looks, [0, 11 * SECOND, 22 * SECOND]);
  await stop();
});

test('a look that fails is told, and made again a period later', async (t) => {
  const { clock, begin, looks, warnings, stop } = rig();
  await begin(() => Promise.reject(new RackstartError('store.unavailable', 'The database is away.')));
  await clock.advance(10 * SECOND);
  t.same(looks, [0, 10 * SECOND]);
  const told = [{ code: 'store.unavailable', reason: 'The database is away.' }, 'the moon is looked for again'];
  t.same(warnings, [told, told]);
  await stop();
});

test('it ends between two looks with the reason of the signal', async (t) => {
  const { clock, begin, looks, running, reason, stop } = rig();
  await begin(() => Promise.resolve());
  await clock.advance(5 * SECOND);
  await stop();
  t.equal(await running(), reason);
  t.equal(clock.nextWake(), undefined, 'and sleeps no longer');
  t.same(looks, [0]);
});

test('a look that the end cuts off is no failure', async (t) => {
  const { clock, begin, running, reason, warnings, stop, signal } = rig();
  await begin(() => clock.sleepUntil(Infinity, signal).catch(() => Promise.reject(new Error('cut off'))));
  await stop();
  t.equal(await running(), reason);
  t.same(warnings, []);
});

function rig() {
  const clock = new ManualClock(0);
  const stopping = new AbortController();
  const reason = new Error('the end');
  const looks: Millis[] = [];
  const warnings: unknown[] = [];
  const log: Log = { ...silentLog, warn: (...told) => void warnings.push(told) };
  let running: Promise<unknown> = Promise.resolve();
  return {
    clock,
    looks,
    warnings,
    reason,
    signal: stopping.signal,
    /** Each look is noted as it begins. */
    begin: (look: () => Promise<void>) => {
      const noted = () => {
        looks.push(clock.now());
        return look();
      };
      const period = { every: 10 * SECOND, failure: 'the moon is looked for again', clock, log };
      running = periodically(noted, period, stopping.signal).catch((error: unknown) => error);
      return clock.advance(0);
    },
    running: () => running,
    stop: async () => {
      stopping.abort(reason);
      await running;
    },
  };
}
