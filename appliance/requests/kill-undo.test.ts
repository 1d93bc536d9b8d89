import { eachStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { findRequest } from './request-records.ts';

eachStore('a daemon that is killed after any write or effect of an undo finishes it', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  // On PostgreSQL, where each run costs more, a few.
  const stride = store.dialect === 'sqlite' ? 1 : 13;
  for (let killAt = 1; ; killAt += stride) {
    const id = await pipeline.order();
    machine!.atHop = (hop) => (hop === 'image' ? { code: 'image.digest', reason: 'no' } : undefined);
    let armed = false;
    machine!.onCommand = (command) => {
      if (command === 'boot pxe once and reset') armed = true;
    };
    pipeline.killAt(killAt, () => armed);
    await pipeline.untilRequest(id, 'rolled-back');
    if (!pipeline.daemon.process.isDead()) await pipeline.untilMachine('available');
    const died = pipeline.revive();
    if (died) await pipeline.untilRequest(id, 'rolled-back');
    await pipeline.untilMachine('available');
    t.match(await pipeline.machine(), { disk_state: 'clean' }, `killed at ${killAt}`);
    t.match(JSON.parse((await findRequest(store.read, id)).failure ?? ''), { code: 'image.digest' });
    const told = (await pipeline.events()).filter(({ type, key }) => type === 'provisioning.rolled-back' && key === id);
    t.equal(told.length, 1, 'told once');
    await pipeline.isHealthy(t);
    if (!died) break;
  }
});
