import { eachStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { attemptsOf, findRequest } from './request-records.ts';

eachStore(
  'a daemon that is killed after any write or effect of a move to another machine goes on with it',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 2, addresses: 60 });
    const [first, second] = pipeline.rack;
    // On PostgreSQL, where each run costs more, a few.
    const stride = store.dialect === 'sqlite' ? 1 : 5;
    for (let killAt = 1; ; killAt += stride) {
      const id = await pipeline.order();
      let armed = false;
      // From the report of the failure until the next machine is told to boot; what comes after is any deploy and any undo.
      first!.atHop = (hop) => {
        if (hop !== 'image') return undefined;
        armed = true;
        return { code: 'boot.stage-failed', reason: 'nobody knows' };
      };
      second!.onCommand = (command) => {
        if (command === 'boot pxe once and reset') armed = false;
      };
      pipeline.killAt(killAt, () => armed);
      const isOver = async () => {
        const { state } = await findRequest(store.read, id);
        return state === 'completed' && (await pipeline.machine(0)).state === 'available';
      };
      await pipeline.until('it is served elsewhere, and the first machine free', isOver);
      const died = pipeline.revive();
      if (died) await pipeline.until('it is served elsewhere after all', isOver);
      const attempts = await attemptsOf(store.read, id);
      t.match(
        attempts.map(({ outcome, machine_id, blame }) => [outcome, machine_id, blame]),
        [
          ['failed', pipeline.machineIds[0], 'unknown'],
          ['succeeded', pipeline.machineIds[1], null],
        ],
        `killed at ${killAt}`,
      );
      const told = (await pipeline.events()).filter(
        ({ type, key }) => type === 'provisioning.attempt-moved' && key === id,
      );
      t.equal(told.length, 1, 'told once');
      t.equal(second!.system?.server, id);
      const quota = await store.read.selectFrom('quotas').selectAll().where('tenant_id', '=', 't1').executeTakeFirst();
      t.equal(quota?.used_servers, 1, 'counted once');
      await pipeline.isHealthy(t);
      await pipeline.release(id);
      await pipeline.untilRequest(id, 'deprovisioned');
      await pipeline.untilMachine('available', 1);
      await pipeline.isHealthy(t);
      // That it is always the same machine is not what is tried here.
      await store.transaction((tx) => tx.updateTable('attempts').set({ failed_at: null }).execute());
      if (!died) break;
    }
  },
);
