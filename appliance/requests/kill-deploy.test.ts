import { eachStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { findRequest } from './request-records.ts';

eachStore(
  'a daemon killed after any write or effect of a deploy goes on when it is started again',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 70, addresses: 200 });
    // Every write and effect on SQLite; on PostgreSQL, where each costs more, one in five.
    const stride = store.dialect === 'sqlite' ? 1 : 5;
    let completed = 0;
    for (let killAt = 1; ; killAt += stride) {
      pipeline.killAt(killAt);
      const id = await pipeline.order();
      await pipeline.untilRequest(id, 'completed', 'rolled-back');
      const died = pipeline.revive();
      if (died) await pipeline.untilRequest(id, 'completed', 'rolled-back');
      for (const { mac, writes } of pipeline.rack) {
        if (new Set(writes).size !== writes.length) t.fail(`killed at ${killAt}: an order installed ${mac} twice`);
      }
      if ((await findRequest(store.read, id)).state === 'completed') {
        completed += 1;
        t.equal(
          pipeline.rack.filter(({ system }) => system?.server === id).length,
          1,
          `killed at ${killAt}: one server`,
        );
      }
      await pipeline.isHealthy(t);
      if (!died) break;
    }
    t.ok(completed > 6, `${completed} deploys went on and completed`);
  },
);
