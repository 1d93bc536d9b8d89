import type { Mac } from '../../pxe/boot-client.ts';
import type { EventLog } from '../events/event-log.ts';
import { createEventLog } from '../events/event-log.ts';
import { Sequencer } from '../events/sequencer.ts';
import type { Ids } from '../kernel/ids.ts';
import { createIds } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { examine } from '../store/doctor.ts';
import type { MachineRow } from '../store/schema.ts';
import type { Store } from '../store/store.ts';
import { eachStore } from '../store/test-stores.ts';
import { placeOrder } from './boot-order.ts';
import { enrolled } from './enrolled.fixture.ts';
import { issueTypes, issuesOf, openIssues, raiseIssue, resolveIssue } from './machine-issues.ts';
import type { FoundIssue } from './machine-issues.ts';
import { moveMachine } from './machine-states.ts';

eachStore('an issue that is found again is the same one until it is resolved', async (t, store, { clock }) => {
  const bench = await issueBench(store, clock);
  const { machineId, told } = bench;
  await bench.raise({ type: 'nic-slow', message: 'eth0 runs at 100 Mbit/s', evidence: { speedMbps: 100 } });
  await clock.advance(1_000);
  await bench.raise({ type: 'nic-slow', message: 'eth0 runs at 10 Mbit/s', evidence: { speedMbps: 10 } });
  const [issue, ...more] = await openIssues(store.read, machineId);
  t.same(more, []);
  t.match(issue, { severity: 'warning', message: 'eth0 runs at 10 Mbit/s', evidence: '{"speedMbps":10}' });
  t.equal(issue!.seen_at - issue!.raised_at, 1_000);
  t.equal(issue!.remedy, issueTypes['nic-slow'].remedy);

  t.equal(await bench.resolve('nic-slow', 'check'), true);
  t.equal(await bench.resolve('nic-slow', 'check'), false, 'it was resolved already');
  t.match(await openIssues(store.read, machineId), []);
  await clock.advance(1_000);
  await bench.raise({ type: 'nic-slow' });
  t.match(await issuesOf(store.read, machineId, 10), [
    { resolved_at: null },
    { id: issue!.id, resolved_at: issue!.seen_at, resolved_by: 'check' },
  ]);
  t.same(await told(), ['machine.issue-raised', 'machine.issue-resolved', 'machine.issue-raised']);
});

eachStore('issues of two types are open side by side, the worst first', async (t, store, { clock }) => {
  const bench = await issueBench(store, clock);
  await bench.raise({ type: 'clock-off' });
  await bench.raise({ type: 'memory-fault' });
  await bench.raise({ type: 'nic-slow' });
  const open = await openIssues(store.read, bench.machineId);
  t.same(
    open.map(({ type }) => type),
    ['memory-fault', 'clock-off', 'nic-slow'],
  );
});

eachStore('a critical issue sets a waiting machine aside and takes its orders back', async (t, store, { clock }) => {
  const bench = await issueBench(store, clock);
  for (const state of ['available', 'ready'] as const) {
    await bench.put(state);
    const { orderId } = await store.transaction((tx) =>
      placeOrder(tx, bench.ids, { machineId: bench.machineId, verb: 'wait' }, { at: 0, windowUntil: 10 }),
    );
    await bench.raise({ type: 'clock-off' });
    t.match(await bench.machine(), { state }, 'a warning leaves it where it is');
    await bench.raise({ type: 'disk-unreadable', message: 'sda cannot be read at 7 GiB' });
    t.match(await bench.machine(), { state: 'quarantined', quarantine_reason: 'sda cannot be read at 7 GiB' });
    const order = store.read.selectFrom('boot_orders').select('state').where('id', '=', orderId);
    t.match(await order.executeTakeFirst(), { state: 'revoked' });
    t.match(await examine(store.read), []);
    await bench.resolve('disk-unreadable', 'check');
    t.match(await bench.machine(), { state: 'quarantined' }, 'that it is gone readmits nothing');
  }
  t.equal((await bench.told()).filter((type) => type === 'alert.raised').length, 2);
});

eachStore("a tenant's server runs on when its machine has a critical issue", async (t, store, { clock }) => {
  const bench = await issueBench(store, clock);
  await bench.put('deployed');
  await bench.raise({ type: 'disk-smart-failing' });
  t.match(await bench.machine(), { state: 'deployed' });
});

eachStore('nobody makes a machine available that has an open critical issue', async (t, store, { clock }) => {
  const bench = await issueBench(store, clock);
  const move = (to: 'available' | 'ready') =>
    store.transaction((tx) =>
      moveMachine(tx, bench.events, { machineId: bench.machineId, to, actor: 'saga', at: clock.now() }),
    );
  for (const [from, to] of [
    ['inspecting', 'available'],
    ['releasing', 'available'],
    ['warming', 'ready'],
  ] as const) {
    await bench.put(from);
    await bench.raise({ type: 'memory-fault', message: 'at 3 GiB' });
    t.match(await bench.machine(), { state: from }, 'what is being done to it goes on');
    t.equal(await move(to), false);
    t.match(await bench.machine(), { state: 'quarantined', quarantine_reason: 'at 3 GiB' });
    await bench.resolve('memory-fault', 'check');
  }
  await bench.raise({ type: 'memory-fault' });
  await bench.put('available');
  t.match(await examine(store.read), [{ invariant: /critical issue/, subject: bench.machineId }]);
  await bench.resolve('memory-fault', 'check');
  await bench.put('inspecting');
  await bench.raise({ type: 'clock-off' });
  t.equal(await move('available'), true, 'a warning keeps nobody out');
});

eachStore(
  'an issue that races with the end of the work sets the machine aside in any order',
  async (t, store, { clock }) => {
    const bench = await issueBench(store, clock);
    for (let round = 0; round < 20; round += 1) {
      await bench.put('inspecting');
      await Promise.all([
        bench.raise({ type: 'memory-fault' }),
        store.transaction((tx) =>
          moveMachine(tx, bench.events, {
            machineId: bench.machineId,
            to: 'available',
            actor: 'saga',
            at: clock.now(),
          }),
        ),
      ]);
      t.match(await bench.machine(), { state: 'quarantined' });
      await bench.resolve('memory-fault', 'check');
    }
  },
);

async function issueBench(store: Store, clock: ManualClock) {
  const ids: Ids = createIds(clock);
  const sequencer = new Sequencer({ store, clock, log: silentLog });
  const events: EventLog = createEventLog({ store, clock, ids, sequencer });
  const machineId = await enrolled(store, '52:54:00:77:00:01' as Mac, { events, ids, clock });
  const told = async () => {
    await sequencer.sequence();
    return (await events.read(0, 1000)).map(({ type }) => type).filter((type) => /issue|alert/.test(type));
  };
  const raise = (found: Pick<FoundIssue, 'type'> & Partial<FoundIssue>) =>
    store.transaction((tx) =>
      raiseIssue(tx, events, ids, { machineId, message: 'so', evidence: {}, at: clock.now(), ...found }),
    );
  const resolve = (type: FoundIssue['type'], by: string) =>
    store.transaction((tx) => resolveIssue(tx, events, { machineId, type, by, at: clock.now() }));
  const put = (state: MachineRow['state']) =>
    store.transaction((tx) => tx.updateTable('machines').set({ state, quarantine_reason: null }).execute());
  const machine = () => store.read.selectFrom('machines').selectAll().executeTakeFirstOrThrow();
  return { ids, events, machineId, told, raise, resolve, put, machine };
}
