import { HOUR, MINUTE } from '../kernel/clock.ts';
import { eachStore } from '../store/test-stores.ts';
import { Demand } from './demand.ts';
import { describeRegion, flavorOf, order } from './pool.fixture.ts';

const start = Date.UTC(2026, 0, 5);
const DAY = 24 * HOUR;
const small = { regionId: 'reg_1', flavorId: 'flv_small' };

eachStore('orders are counted by the hour, from the first on, each flavor apart', async (t, store) => {
  await describeRegion(store, [flavorOf('flv_small'), flavorOf('flv_large')]);
  await order(store, [start, start + HOUR - 1, start + 2 * HOUR]);
  await order(store, [start + HOUR], 'flv_large');
  const demand = new Demand(store.read);
  await demand.advance(start + 3 * HOUR + MINUTE);
  t.same(demand.seriesOf(small), { startAt: start, bucketMs: HOUR, counts: [2, 0, 1] });
  t.same(demand.seriesOf({ ...small, flavorId: 'flv_large' }), {
    startAt: start + HOUR,
    bucketMs: HOUR,
    counts: [1, 0],
  });
  t.same(demand.seriesOf({ ...small, flavorId: 'flv_none' }).counts, []);
});

eachStore('an hour counts when it has ended and what was admitted in it is committed', async (t, store) => {
  await describeRegion(store);
  await order(store, [start]);
  const demand = new Demand(store.read);
  await demand.advance(start + HOUR + MINUTE - 1);
  t.same(demand.seriesOf(small).counts, []);
  await order(store, [start + HOUR - 1]);
  await demand.advance(start + HOUR + MINUTE);
  t.same(demand.seriesOf(small).counts, [2]);
  await order(store, [start + HOUR]);
  await demand.advance(start + 2 * HOUR + MINUTE);
  t.same(demand.seriesOf(small).counts, [2, 1], 'the next hour is added to it');
});

eachStore('what is older than 90 days is forgotten', async (t, store) => {
  await describeRegion(store);
  await order(store, [start, start + 50 * DAY]);
  const demand = new Demand(store.read);
  await demand.advance(start + 60 * DAY);
  t.equal(demand.seriesOf(small).startAt, start);
  await demand.advance(start + 91 * DAY);
  t.equal(demand.seriesOf(small).startAt, start + 50 * DAY);
});
