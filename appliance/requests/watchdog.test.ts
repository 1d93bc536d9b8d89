import { SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { revokeOrders } from '../machines/boot-order.ts';
import { diagnose } from '../machines/diagnosis/diagnose.ts';
import { gatherEvidence, lastBoot } from '../machines/diagnosis/gather.ts';
import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { parked } from './ready.fixture.ts';
import { findRequest } from './request-records.ts';

const PREPARED = 'stop watchdog, then reset';
const STOPPED = 'stop watchdog, then none';

sqliteStore('unless it is asked for, no BMC is told of a watchdog', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  await pipeline.release(id);
  await pipeline.untilRequest(id, 'deprovisioned');
  t.notMatch(machine!.commands.join(), 'watchdog');
});

eachStore('a server is installed under a watchdog, and handed over without one', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { watchdog: true });
  const [machine] = pipeline.rack;
  const armed = new Map<string, boolean>();
  machine!.atHop = (hop) => void armed.set(hop, machine!.timer.armed);
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  t.match(Object.fromEntries(armed), {
    claim: false,
    disk: true,
    image: true,
    inject: true,
    kexec: false,
    boot: false,
  });
  t.same(machine!.commands, ['read power', PREPARED, 'boot pxe once and reset', STOPPED]);

  machine!.commands.length = 0;
  machine!.timer = { armed: true, fired: false, unfedFor: 5 * SECOND };
  await pipeline.release(id);
  await pipeline.untilRequest(id, 'deprovisioned');
  t.same(
    machine!.commands.slice(0, 3),
    ['power off', 'clear boot override', STOPPED],
    "the tenant's own, before the wipe",
  );
  await pipeline.isHealthy(t);
});

sqliteStore('a machine that waits is watched from its install on', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { watchdog: true });
  const [machine] = pipeline.rack;
  await parked(pipeline);
  t.ok(machine!.commands.includes(PREPARED));
  t.notOk(machine!.timer.armed);
  let armed = false;
  machine!.atHop = (hop) => void (armed ||= hop === 'image' && machine!.timer.armed);
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  t.ok(armed);
  t.equal(machine!.commands.at(-1), STOPPED);
  t.notOk(machine!.timer.armed);
});

for (const code of ['bmc.refused', 'bmc.lied'] as const) {
  sqliteStore(
    `a BMC without a watchdog (${code}) is asked once a boot, and fails none`,
    async (t, store, { clock }) => {
      const pipeline = await Pipeline.open(t, store, clock, { watchdog: true });
      const [machine] = pipeline.rack;
      const asked: string[] = [];
      machine!.atCommand = (command) => {
        if (!command.includes('watchdog')) return;
        asked.push(command);
        throw new RackstartError(code, 'it is not to be had');
      };
      let armed = false;
      machine!.atHop = () => void (armed ||= machine!.timer.armed);
      const id = await pipeline.order();
      await pipeline.untilRequest(id, 'completed');
      await pipeline.release(id);
      await pipeline.untilRequest(id, 'deprovisioned');
      t.notOk(armed);
      t.same(asked, [PREPARED]);
    },
  );
}

eachStore('no tenant is given a machine whose timer still runs', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { watchdog: true });
  const [machine] = pipeline.rack;
  machine!.leavesTimerArmed = true;
  const stopped = await pipeline.order();
  await pipeline.untilRequest(stopped, 'completed');
  t.notOk(machine!.timer.armed, 'whatever the ramdisk has forgotten');
  await pipeline.release(stopped);
  await pipeline.untilRequest(stopped, 'deprovisioned');
  await pipeline.untilMachine('available');

  machine!.atCommand = (command) => {
    if (command === STOPPED && machine!.state === 'on') throw new RackstartError('bmc.lied', 'it runs on');
  };
  const refused = await pipeline.order({ hostname: 'web2' });
  await pipeline.untilRequest(refused, 'rolled-back');
  t.match(await findRequest(store.read, refused), { failure: /bmc\.lied/, completed_at: null });
  await pipeline.untilMachine('quarantined');
  t.notOk(machine!.timer.armed);
});

sqliteStore('what a boot that is cut off has left is stopped before the next one', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { watchdog: true });
  const [machine] = pipeline.rack;
  machine!.atHop = async (hop) => {
    if (hop !== 'image' || machine!.generation !== 1) return undefined;
    await store.transaction((tx) => revokeOrders(tx, pipeline.machineIds[0] ?? '', 'cut-off', clock.now()));
    return 'silent';
  };
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  const reset = 'boot pxe once and reset';
  t.same(machine!.commands, ['read power', PREPARED, reset, STOPPED, PREPARED, reset, STOPPED]);
});

sqliteStore(
  'behind whatever write or effect a daemon is killed, no server is under a timer',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 30, addresses: 100, watchdog: true });
    for (const machine of pipeline.rack) machine.leavesTimerArmed = true;
    let [killAt, died] = [0, true];
    for (; died; killAt += 2) {
      let points = 0;
      pipeline.onPoint = (what) => {
        if (what === 'written' || what === 'effected') points += 1;
        if (points > killAt) pipeline.kill();
      };
      const id = await pipeline.order();
      await pipeline.untilRequest(id, 'completed', 'rolled-back');
      died = pipeline.daemon.process.isDead();
      pipeline.onPoint = () => undefined;
      if (died) pipeline.restart();
      await pipeline.untilRequest(id, 'completed');
      const [served] = pipeline.rack.filter(({ system }) => system?.server === id);
      t.match(served?.timer, { armed: false }, `killed at ${String(killAt)}`);
    }
    t.ok(killAt > 20);
  },
);

eachStore('a machine whose watchdog fired is to blame, and set aside', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { watchdog: true });
  const [machine] = pipeline.rack;
  machine!.atHop = (hop) => {
    if (hop !== 'image') return undefined;
    machine!.timer = { armed: false, fired: true, unfedFor: 0 };
    return 'silent';
  };
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'rolled-back');
  await pipeline.untilMachine('quarantined');
  t.match(await issues(store), [{ type: 'deploy-failed', message: /stood still in the ramdisk/ }]);
  t.match(await diagnosed(store, id), { findings: [{ cause: 'machine-hung', evidence: [/watchdog fired=true/] }] });
  t.notOk(machine!.timer.fired, 'the next boot begins anew');
});

sqliteStore(
  'one whose timer is not kept up stands still; one that is kept up does not',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 2, watchdog: true });
    const [hung, busy] = pipeline.rack;
    hung!.atHop = (hop) => (hop === 'image' ? falls(hung!, 45 * SECOND) : undefined);
    busy!.atHop = (hop) => (hop === 'image' ? falls(busy!, 9 * SECOND) : undefined);
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'rolled-back');
    t.match(await store.read.selectFrom('attempts').select(['machine_id', 'blame']).orderBy('number').execute(), [
      { blame: 'machine' },
      { blame: 'unknown' },
    ]);
  },
);

function falls(machine: Pipeline['rack'][number], unfedFor: number): 'silent' {
  machine.timer = { armed: true, fired: false, unfedFor };
  return 'silent';
}

function issues(store: Store) {
  return store.read.selectFrom('machine_issues').select(['type', 'message']).execute();
}

async function diagnosed(store: Store, requestId: string) {
  const { id: attemptId } = await store.read
    .selectFrom('attempts')
    .select('id')
    .where('request_id', '=', requestId)
    .executeTakeFirstOrThrow();
  const boot = await lastBoot(store.read, { attemptId });
  return diagnose(await gatherEvidence(store.read, boot ?? '', Number.MAX_SAFE_INTEGER));
}
