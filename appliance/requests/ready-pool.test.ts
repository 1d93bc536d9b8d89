import { SECOND } from '../kernel/clock.ts';
import { silentLog } from '../kernel/log.ts';
import { openBoot } from '../machines/boot-records.ts';
import { imageAhead } from '../machines/image-ahead.ts';
import { ParkedMachines } from '../pool/parked-machines.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Store } from '../store/store.ts';
import { eachStore } from '../store/test-stores.ts';
import { eventOf } from './given-back.fixture.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { drain, parked, warm } from './ready.fixture.ts';

eachStore('a machine is warmed and drained, and asking twice changes nothing', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  await Promise.all([warm(pipeline), warm(pipeline)]);
  await pipeline.untilMachine('ready');
  await warm(pipeline);
  await pipeline.settle();
  t.same(machine!.commands, ['boot pxe once and reset']);
  t.match(await openBoot(store.read, pipeline.machineIds[0]!), { state: 'parked', order: { verb: 'wait' } });
  t.match(await pipeline.machine(), { state: 'ready', disk_state: 'clean' });
  await pipeline.isHealthy(t);

  await drain(pipeline);
  t.equal((await pipeline.machine()).state, 'draining');
  await drain(pipeline);
  await pipeline.untilMachine('available');
  await drain(pipeline);
  t.equal(machine!.state, 'off');
  await pipeline.isHealthy(t);
});

eachStore('one that waits is told to write what was ordered before', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  await pipeline.release(await pipeline.order());
  await pipeline.untilMachine('available');
  await parked(pipeline);
  const boot = await openBoot(store.read, pipeline.machineIds[0]!);
  const { sha256, raw_bytes } = await store.read.selectFrom('images').selectAll().executeTakeFirstOrThrow();
  t.match(await imageAhead(store.read, boot!.order), { image: { sha256, rawBytes: raw_bytes }, disk: {} });
  t.match(await pipeline.machine(), { disk_state: 'clean' }, 'nothing of a tenant is on it');

  await store.transaction((tx) => tx.updateTable('images').set({ deleted_at: clock.now() }).execute());
  t.equal(await imageAhead(store.read, boot!.order), undefined, 'an image that is deleted is nothing to write');
});

eachStore('one that is drained while it warms is off, and nobody is alarmed', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  machine!.atHop = (hop) => (hop === 'inspect' ? 'silent' : undefined);
  await warm(pipeline);
  await pipeline.until('a boot', () => Promise.resolve(machine!.decisions.length > 0));
  await pipeline.settle();
  await drain(pipeline);
  await pipeline.untilMachine('available');
  t.equal(machine!.state, 'off');
  t.notOk((await pipeline.events()).some(({ type }) => type === 'alert.raised'));
  await pipeline.isHealthy(t);
});

eachStore(
  'a machine that does not warm is off and free again, and somebody is told why',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    machine!.atHop = (hop) => (hop === 'inspect' ? { code: 'boot.stage-failed', reason: 'no such file' } : undefined);
    await warm(pipeline);
    await pipeline.untilMachine('available');
    t.equal(machine!.state, 'off');
    t.match(eventOf(await pipeline.events(), 'alert.raised'), {
      data: { code: 'boot.stage-failed', message: /no such file/ },
    });
    await pipeline.isHealthy(t);
  },
);

eachStore('a machine that cannot be proven off does not come back from the pool', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  await parked(pipeline);
  machine!.atCommand = (command) => {
    if (command === 'power off') throw new RackstartError('bmc.unreachable', 'no answer');
  };
  await drain(pipeline);
  await pipeline.untilMachine('quarantined');
  await pipeline.isHealthy(t);
});

eachStore('what somebody holds is neither warmed nor drained', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  await parked(pipeline);
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  await t.rejects(warm(pipeline), { code: 'state.conflict' });
  await t.rejects(drain(pipeline), { code: 'state.conflict' });
  await pipeline.isHealthy(t);
});

eachStore(
  'a kill at any write or effect of warming, draining and installing loses nothing',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    for (const killAt of [3, 8, 14, 21, 30]) {
      let points = 0;
      pipeline.onPoint = () => {
        if (++points === killAt) pipeline.kill();
      };
      await warm(pipeline).catch(() => undefined);
      const [machine] = pipeline.rack;
      await pipeline.until('a kill, or ready', async () => (await pipeline.machine()).state === 'ready');
      pipeline.onPoint = () => undefined;
      pipeline.restart();
      if ((await pipeline.machine()).state === 'available') await warm(pipeline);
      await pipeline.untilMachine('ready');
      await pipeline.isHealthy(t);
      t.equal(machine!.state, 'on');
      await drain(pipeline);
      await pipeline.untilMachine('available');
      await pipeline.isHealthy(t);
    }
  },
);

eachStore('a machine that was held, but not ordered to do anything, is ready again', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  await parked(pipeline);
  await store.transaction((tx) => tx.updateTable('machine_disks').set({ bytes: 4096 }).execute());
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'rolled-back');
  t.equal((await pipeline.machine()).state, 'ready');
  t.equal(machine!.state, 'on');
  await pipeline.isHealthy(t);
});

eachStore('who has stopped asking leaves the pool; who asks stays', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 2 });
  const [silent, asking] = pipeline.rack;
  const asks = () =>
    pipeline.daemon.director.next(asking!.bearer!, asking!.generation, AbortSignal.abort()).catch(() => undefined);
  silent!.atHop = (hop) => (hop === 'next' ? 'silent' : undefined);
  await parked(pipeline, 0);
  await parked(pipeline, 1);
  const keeper = keeperOf(pipeline, undefined);
  const began = clock.now();
  await keeper.look(began);
  t.equal((await pipeline.machine(0)).state, 'ready');
  await clock.advance(125 * SECOND);
  await asks();
  await keeper.look(clock.now() - SECOND);
  t.equal((await pipeline.machine(0)).state, 'ready', 'nobody could be heard before');
  await keeper.look(began);
  t.equal((await pipeline.machine(0)).state, 'draining');
  await pipeline.untilMachine('available', 0);
  t.equal(silent!.state, 'off');
  t.match(eventOf(await pipeline.events(), 'alert.raised'), { data: { message: /has not asked for an order/ } });
  t.equal((await pipeline.machine(1)).state, 'ready');
  t.same(await issuesOf(store), [], 'once may be anybody’s fault');
  await pipeline.isHealthy(t);

  await parked(pipeline, 0);
  await clock.advance(125 * SECOND);
  await asks();
  await keeper.look(began);
  await pipeline.untilMachine('available', 0);
  t.match(await issuesOf(store), [{ machine_id: pipeline.machineIds[0], type: 'falls-silent' }]);
  await pipeline.isHealthy(t);
});

eachStore(
  'who waits in an old ramdisk is warmed anew, one at a time, and never while it is held',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 3 });
    for (const index of [0, 1, 2]) await parked(pipeline, index);
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'completed');
    const generations = async () =>
      (await Promise.all([0, 1, 2].map((index) => pipeline.machine(index)))).map(({ generation }) => generation);
    t.same(await generations(), [2, 1, 1], 'the first was leased');
    const gate = Promise.withResolvers<undefined>();
    for (const machine of pipeline.rack) {
      machine.ramdisk = NEWER;
      machine.atCommand = () => gate.promise;
    }
    const keeper = keeperOf(pipeline, NEWER);
    await keeper.look(0);
    await keeper.look(0);
    const states = await Promise.all([1, 2].map(async (index) => (await pipeline.machine(index)).state));
    t.same(states.sort(), ['draining', 'ready'], 'one at a time');
    gate.resolve(undefined);
    await pipeline.until('both to wait in the newer one', async () => {
      await keeper.look(0);
      const boots = await Promise.all([1, 2].map((index) => openBoot(store.read, pipeline.machineIds[index]!)));
      return boots.every((boot) => boot?.state === 'parked' && boot.ramdisk === NEWER);
    });
    await pipeline.untilMachine('ready', 1);
    await pipeline.untilMachine('ready', 2);
    await pipeline.isHealthy(t);
    t.equal((await pipeline.machine(0)).state, 'deployed');
    t.equal((await generations())[0], 2);
  },
);

const NEWER = 'a newer ramdisk';

function issuesOf(store: Store) {
  return store.read.selectFrom('machine_issues').select(['machine_id', 'type']).execute();
}

function keeperOf({ store, clock, ids, daemon }: Pipeline, ramdisk: string | undefined): ParkedMachines {
  const { pool, bell, process } = daemon;
  return new ParkedMachines(
    { store, events: process.events, pool, bell, ramdisk, clock, ids, log: silentLog },
    { silence: 100 * SECOND, rolledAtOnce: 1 },
  );
}
