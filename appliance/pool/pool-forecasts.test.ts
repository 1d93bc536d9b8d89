import { test } from 'tap';

import { chooseMethod } from '../../scheduler/forecast/forecast.ts';
import { HOUR, MINUTE } from '../kernel/clock.ts';
import { eachStore } from '../store/test-stores.ts';
import { chooseInThread } from './choose-method.ts';
import { Demand } from './demand.ts';
import { PoolForecasts } from './pool-forecasts.ts';
import { describeRegion, order } from './pool.fixture.ts';

const never = new AbortController().signal;

eachStore('a method is chosen once a day and walked along the orders every hour', async (t, store, { clock }) => {
  await describeRegion(store);
  const now = Math.ceil(clock.now() / HOUR) * HOUR + MINUTE;
  await order(
    store,
    Array.from({ length: 48 }, (_, hour) => now - (hour + 1) * HOUR),
  );
  let choices = 0;
  const choose = async ({ series, leadMs }: Parameters<typeof chooseInThread>[0]) => {
    choices += 1;
    return chooseMethod(series, leadMs);
  };
  const forecasts = new PoolForecasts(new Demand(store.read), choose);
  const pool = { regionId: 'reg_1', flavorId: 'flv_small' };
  const at = (moment: number) => forecasts.of(pool, { now: moment, leadMs: 12 * MINUTE }, never);
  const first = await at(now);
  t.equal(await at(now + 30 * MINUTE), first, 'within the hour it stands');
  t.ok(first.over(now, now + HOUR).mean > 0.5, 'one an hour was ordered');

  await order(
    store,
    Array.from({ length: 50 }, (_, index) => now + index * MINUTE),
  );
  const second = await at(now + HOUR);
  t.ok(second.over(now + HOUR, now + 2 * HOUR).mean > first.over(now, now + HOUR).mean);
  t.equal(choices, 1);
  await at(now + 24 * HOUR);
  t.equal(choices, 2);
});

test('a thread chooses what would be chosen here', async (t) => {
  const counts = Array.from({ length: 14 * 24 }, (_, hour) => (hour % 24 < 12 ? 6 : 1));
  const task = { series: { startAt: 0, bucketMs: HOUR, counts }, leadMs: 12 * MINUTE };
  t.same(await chooseInThread(task, never), chooseMethod(task.series, task.leadMs));
  await t.rejects(chooseInThread(task, AbortSignal.abort(new Error('shutting down'))), /shutting down/);
});
