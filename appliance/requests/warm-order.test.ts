import { openBoot } from '../machines/boot-records.ts';
import { eachStore } from '../store/test-stores.ts';
import { TAKE_DEADLINE } from './daemon.fixture.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { parked } from './ready.fixture.ts';
import { findRequest } from './request-records.ts';

eachStore(
  'a parked machine gets its install where it waits: nothing is booted, no BMC is asked',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    await parked(pipeline);
    const waited = machine!.bearer!;
    const { commands, decisions } = machine!;
    const [before, decided] = [commands.length, decisions.length];
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'completed');
    t.same(commands.slice(before), [], 'its BMC was told nothing');
    t.equal(decisions.length, decided, 'nothing was booted');
    t.same(machine!.writes, [2], 'it was installed, once');
    const attempt = await store.read.selectFrom('attempts').select('path').executeTakeFirstOrThrow();
    t.equal(attempt.path, 'warm');
    const stale = { code: 'boot.stale' };
    await t.rejects(
      pipeline.daemon.director.next(waited, 1, AbortSignal.abort()),
      stale,
      'what it waited with is dead',
    );
    await pipeline.isHealthy(t);

    await pipeline.release(id);
    await pipeline.untilRequest(id, 'deprovisioned');
    await pipeline.untilMachine('available');
    t.equal(machine!.state, 'off');
    await pipeline.isHealthy(t);
  },
);

eachStore('an answer that is lost comes again, until its bearer was used', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  await parked(pipeline);
  const waited = machine!.bearer!;
  const { director } = pipeline.daemon;
  const again = () => director.next(waited, 1, AbortSignal.abort());
  let lost = 0;
  machine!.atAnswer = () => (lost++ < 3 ? 'lost' : 'heard');
  machine!.atHop = async (hop) => {
    if (hop === 'disk') await t.rejects(again(), { code: 'boot.stale' }, 'now it was used');
    return undefined;
  };
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  t.equal(lost, 4);
  t.same(machine!.writes, [2]);
  t.not(machine!.bearer?.reveal(), waited.reveal());
  await t.rejects(director.files(waited), { code: 'boot.stale' });
  await pipeline.isHealthy(t);
});

eachStore(
  'a parked machine that does not take its order is booted, after the order was taken back',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    machine!.atHop = (hop) => (hop === 'next' ? 'silent' : undefined);
    await parked(pipeline);
    const waited = machine!.bearer!;
    const { director } = pipeline.daemon;
    const ordered = clock.now();
    let told: number | undefined;
    machine!.atCommand = async (command) => {
      if (command !== 'boot pxe once and reset') return;
      told = clock.now();
      const orders = await store.read
        .selectFrom('boot_orders')
        .select(['verb', 'state'])
        .orderBy('generation')
        .execute();
      t.same(
        orders.slice(1).map(({ verb, state }) => `${verb} ${state}`),
        ['install revoked', 'install pending'],
      );
      await t.rejects(director.next(waited, 1, AbortSignal.abort()), { code: 'boot.stale' }, 'it comes too late');
    };
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'completed');
    t.equal(told! - ordered, TAKE_DEADLINE);
    t.same(machine!.writes, [3]);
    const attempt = await store.read.selectFrom('attempts').select('path').executeTakeFirstOrThrow();
    t.equal(attempt.path, 'cold');
    await pipeline.isHealthy(t);
  },
);

eachStore(
  'one that boots from the network meanwhile never gets the order that it did not wait for',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    machine!.atHop = (hop) => (hop === 'next' ? 'silent' : undefined);
    await parked(pipeline);
    const id = await pipeline.order();
    await pipeline.until('the order', async () => {
      return (await openBoot(store.read, pipeline.machineIds[0]!))?.state === 'ordered';
    });
    machine!.restart('pxe');
    await machine!.work;
    t.equal(machine!.decisions.at(-1), 'local-disk');
    t.match(await store.read.selectFrom('boot_orders').select('state').where('verb', '=', 'install').execute(), [
      { state: 'pending' },
    ]);
    await pipeline.untilRequest(id, 'completed');
    t.same(machine!.writes, [3]);
    await pipeline.isHealthy(t);
  },
);

eachStore('what was parked is a machine that is off again when its install fails', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  await parked(pipeline);
  machine!.atHop = (hop) => (hop === 'image' ? { code: 'image.altered', reason: 'altered' } : undefined);
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'rolled-back');
  t.match(JSON.parse((await findRequest(store.read, id)).failure ?? ''), { code: 'image.altered' });
  await pipeline.untilMachine('available');
  const { commands } = machine!;
  const wiped = commands.lastIndexOf('boot pxe once and reset');
  t.ok(commands.slice(0, wiped).includes('power off'), 'off before its disk was wiped');
  t.equal(machine!.state, 'off');
  await pipeline.isHealthy(t);
});
