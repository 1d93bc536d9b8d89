import { eachStore } from '../store/test-stores.ts';
import { deaf, looking, measured } from './hedging.fixture.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { attemptsOf, findRequest } from './request-records.ts';

eachStore(
  'a daemon that is killed after any write or effect of a hedge and its decision has one server in the end',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 2, addresses: 60 });
    const [first, second] = pipeline.rack;
    // On PostgreSQL, where each run costs more, a few.
    const stride = store.dialect === 'sqlite' ? 1 : 5;
    for (let killAt = 1; ; killAt += stride) {
      // The first machine never answers; the second does as soon as it is asked.
      deaf(pipeline, 0);
      const id = await pipeline.order();
      if (killAt === 1) await measured(pipeline, id);
      await pipeline.untilRequest(id, 'verifying');
      // From the hedge until its machine is told to boot, and from its phone-home until the first is told to go off.
      let armed = true;
      second!.onCommand = (command) => {
        if (command === 'boot pxe once and reset') armed = false;
      };
      second!.atHop = (hop) => {
        if (hop === 'phone-home') armed = true;
        return undefined;
      };
      first!.onCommand = (command) => {
        if (command === 'power off') armed = false;
      };
      pipeline.killAt(killAt, () => armed);
      const isOver = async () => {
        const { state } = await findRequest(store.read, id);
        return state === 'completed' && (await pipeline.machine(0)).state === 'available';
      };
      await looking(pipeline, 'it is served by the second, and the first machine free', isOver);
      const died = pipeline.revive();
      if (died) await looking(pipeline, 'it is served by the second after all', isOver);
      t.match(
        (await attemptsOf(store.read, id)).map(({ outcome, machine_id }) => [outcome, machine_id]),
        [
          ['cancelled', pipeline.machineIds[0]],
          ['succeeded', pipeline.machineIds[1]],
        ],
        `killed at ${killAt}`,
      );
      const events = (await pipeline.events()).filter(({ key }) => key === id);
      for (const once of ['provisioning.hedged', 'provisioning.outrun', 'provisioning.completed'])
        t.equal(events.filter(({ type }) => type === once).length, 1, `${once} is told once`);
      t.equal(second!.system?.server, id);
      const quota = await store.read.selectFrom('quotas').selectAll().where('tenant_id', '=', 't1').executeTakeFirst();
      t.equal(quota?.used_servers, 1, 'counted once');
      await pipeline.isHealthy(t);
      await pipeline.release(id);
      await pipeline.untilRequest(id, 'deprovisioned');
      await pipeline.untilMachine('available', 1);
      await pipeline.isHealthy(t);
      if (!died) break;
    }
  },
);
