import type { Test } from 'tap';

import { SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { EventRecord } from '../events/event-log.ts';
import type { Behaviour, Hop, RackMachine } from '../machines/rack.fixture.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { servers } from './given-back.fixture.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { attemptsOf, findRequest } from './request-records.ts';
import { viewServer } from './server-view.ts';
import { serverTimeline } from './server-timeline.ts';

const badStage = { code: 'boot.stage-failed', reason: 'a writer ended' };
const badDisk = { code: 'disk.failed', reason: 'writing to /dev/sda failed: Input/output error' };

function fails(machine: RackMachine | undefined, at: Hop, behaviour: Behaviour): void {
  machine!.atHop = (hop) => (hop === at ? behaviour : undefined);
}

eachStore(
  'a request whose machine fails goes on at once on another, and only that machine is set aside',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 3 });
    fails(pipeline.rack[0], 'image', badDisk);
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'completed');
    const [first, second] = await attemptsOf(store.read, id);
    t.equal(second?.created_at, first?.failed_at, 'in the moment in which the first failed');
    const steps = await store.read.selectFrom('saga_steps').select('forward').where('name', '=', 'activate').execute();
    for (const { forward } of steps) {
      if (forward !== null) t.match(JSON.parse(forward), { tries: 1 }, 'no retry was spent');
    }
    await pipeline.untilMachine('quarantined');
    await isTold(t, pipeline, id, ['machine']);
    t.match(await pipeline.machine(0), { quarantine_reason: /disk failed/, disk_state: 'dirty' });
    t.equal(pipeline.rack[0]!.state, 'off');
    t.match(await pipeline.machine(1), { state: 'deployed' });
    t.match(await pipeline.machine(2), { state: 'available' });
    t.equal((await servers(pipeline)).length, 1, 'what the first attempt held is free');
    t.match(await quota(pipeline), { used_servers: 1 });
    const failed = (await pipeline.events()).filter(({ type }) => type === 'provisioning.failed');
    t.same(failed, [], 'it did not fail');
    await pipeline.isHealthy(t);
    await pipeline.release(id);
    await pipeline.untilRequest(id, 'deprovisioned');
    t.match(await quota(pipeline), { used_servers: 0 });
    await pipeline.untilMachine('available', 1);
    await pipeline.isHealthy(t);
  },
);

sqliteStore(
  'three machines are tried, no more and none twice; then the request is rolled back',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 5 });
    for (const machine of pipeline.rack)
      fails(machine, 'kexec', { code: 'boot.stage-failed', reason: 'kexec returned' });
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'rolled-back');
    const attempts = await attemptsOf(store.read, id);
    t.same(
      attempts.map(({ number, outcome, machine_id }) => [number, outcome, machine_id]),
      pipeline.machineIds.slice(0, 3).map((machineId, index) => [index + 1, 'failed', machineId]),
    );
    await isTold(t, pipeline, id, ['unknown', 'unknown']);
    for (const index of [0, 1, 2]) await pipeline.untilMachine('available', index);
    t.same(await servers(pipeline), []);
    t.match(await quota(pipeline), { used_servers: 0 });
    const events = await pipeline.events();
    const ended = events.filter(({ type, key }) => type === 'provisioning.rolled-back' && key === id);
    t.equal(ended.length, 1);
    t.equal((ended[0]?.data as unknown as { held: string[] }).held.length, 6, 'three machines and their addresses');
    await pipeline.isHealthy(t);
  },
);

sqliteStore(
  'when no other machine is free the request is rolled back for what failed it',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 2 });
    for (const machine of pipeline.rack) fails(machine, 'image', badDisk);
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'rolled-back');
    t.match(JSON.parse((await findRequest(store.read, id)).failure ?? ''), { code: 'disk.failed' });
    t.equal((await attemptsOf(store.read, id)).length, 2);
    await pipeline.isHealthy(t);
  },
);

sqliteStore(
  'an attempt that finds no machine leaves the request with what failed the one before',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 2 });
    fails(pipeline.rack[0], 'image', badDisk);
    // Free it is, and its disk too small: that is seen when it is looked for.
    const small = { bytes: 10 * 1024 ** 3 };
    await store.transaction((tx) =>
      tx.updateTable('machine_disks').set(small).where('machine_id', '=', pipeline.machineIds[1]!).execute(),
    );
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'rolled-back');
    t.match(JSON.parse((await findRequest(store.read, id)).failure ?? ''), { code: 'disk.failed' });
    const [, second] = await attemptsOf(store.read, id);
    t.match(second, { outcome: 'failed', machine_id: null, blame: null });
    t.match(JSON.parse(second?.failure ?? ''), { code: 'placement.none', details: { emptiedBy: 'too-small-disk' } });
    const failed = (await pipeline.events()).filter(({ type }) => type === 'provisioning.failed');
    t.match(failed, [{ data: { code: 'disk.failed' } }]);
    await pipeline.isHealthy(t);
  },
);

sqliteStore(
  'a machine that falls silent a third time, where others serve, is set aside',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 2 });
    fails(pipeline.rack[0], 'script', 'silent');
    const states = [];
    for (let round = 0; round < 3; round += 1) {
      const id = await pipeline.order();
      await pipeline.untilRequest(id, 'completed');
      await pipeline.release(id);
      await pipeline.untilRequest(id, 'deprovisioned');
      await pipeline.untilMachine('available', 1);
      states.push((await pipeline.machine()).state);
    }
    t.same(states, ['available', 'available', 'quarantined']);
    t.match(await pipeline.machine(), { quarantine_reason: /2 times before/ });
    await pipeline.isHealthy(t);
  },
);

sqliteStore(
  'a corrupt image fails its requests, and sets none of twenty machines aside',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 20, addresses: 60, fairness: { perTenant: 20 } });
    // One that is refused by every ramdisk; and one that nobody can tell from bad machines, since nothing comes up.
    for (const [hop, behaviour] of [
      ['kexec', { code: 'image.invalid', reason: 'the image has no kernel in /boot' }],
      ['image', { code: 'image.unreachable', reason: 'the image did not arrive: 500' }],
      ['boot', 'silent'],
    ] as const) {
      for (const machine of pipeline.rack) fails(machine, hop, behaviour);
      const ids = await Promise.all(Array.from({ length: 6 }, () => pipeline.order()));
      for (const id of ids) await pipeline.untilRequest(id, 'rolled-back');
      for (const index of pipeline.rack.keys()) await pipeline.untilMachine('available', index);
    }
    const moves = (await pipeline.events()).filter(({ type }) => type === 'machine.state-changed');
    t.same(
      moves.filter(({ data }) => (data as { to: string }).to === 'quarantined'),
      [],
    );
    const blamed = await store.read.selectFrom('attempts').select(['blame']).distinct().orderBy('blame').execute();
    t.same(
      blamed.map(({ blame }) => blame),
      ['image', 'service', 'unknown'],
    );
    await pipeline.isHealthy(t);
  },
);

eachStore(
  'a request that is cancelled while its failed attempt is undone ends once both hold nothing',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 2 });
    const [first, second] = pipeline.rack;
    fails(first, 'image', badDisk);
    fails(second, 'image', 'silent');
    // The first can't be switched off for a while.
    let isDead = true;
    first!.atCommand = (command) => {
      if (isDead && command === 'power off') throw new Error('it does not answer');
    };
    const id = await pipeline.order();
    await pipeline.until(
      'the second is at it',
      async () =>
        (await pipeline.machine(1)).state === 'deploying' &&
        second!.writes.length === 0 &&
        (await attemptsOf(store.read, id)).length === 2,
    );
    await pipeline.release(id);
    await pipeline.untilMachine('available', 1);
    t.match(await findRequest(store.read, id), { state: 'rolling-back', ended_at: null });
    t.match(await quota(pipeline), { used_servers: 1 }, 'counted once, and until all is given back');
    isDead = false;
    await pipeline.until('all is undone or stuck', async () => {
      const stuck = await store.read.selectFrom('sagas').select('id').where('state', '=', 'stuck').execute();
      const { sagas } = pipeline.daemon.process;
      for (const { id: sagaId } of stuck) await store.transaction((tx) => sagas.retryStuck(tx, sagaId));
      return (await findRequest(store.read, id)).ended_at !== null;
    });
    const told = (await pipeline.events()).filter(({ type, key }) => type === 'provisioning.rolled-back' && key === id);
    t.match(told, [{ data: { reason: /Cancelled by/ } }]);
    t.match(await quota(pipeline), { used_servers: 0 });
    t.match(
      (await attemptsOf(store.read, id)).map(({ outcome }) => outcome),
      ['failed', 'cancelled'],
    );
    await pipeline.isHealthy(t);
  },
);

sqliteStore(
  'a request moves on in one of its places, and five of a tenant go on beside each other',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 12, fairness: { perTenant: 5 } });
    for (const machine of pipeline.rack.slice(0, 5)) fails(machine, 'image', badDisk);
    const ids = await Promise.all(Array.from({ length: 7 }, () => pipeline.order()));
    for (const id of ids) await pipeline.untilRequest(id, 'completed');
    t.match(await quota(pipeline), { used_servers: 7 });
    for (const index of [0, 1, 2, 3, 4]) await pipeline.untilMachine('quarantined', index);
    await pipeline.isHealthy(t);
  },
);

sqliteStore(
  "a server's timeline tells what its attempts were, and why their machines were chosen",
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 2 });
    pipeline.rack[0]!.kernelLog = ['blk_update_request: I/O error, dev sda, sector 2048'];
    fails(pipeline.rack[0], 'image', { code: 'boot.stage-failed', reason: 'a writer ended' });
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'completed');
    await pipeline.untilMachine('quarantined');
    const view = await viewServer(store.read, id);
    const { entries, stages } = await serverTimeline(store.read, view);
    const moved = { attempt: 2, from: 'm1', blame: 'machine', code: 'boot.stage-failed' };
    t.match(entries.find(({ name }) => name === 'attempt moved')?.detail, moved);
    t.match(view.attempts[0]?.attempt.blame_reason, /^its disk: blk_update_request: I\/O error, dev sda/);
    const chosen = entries.filter(({ name }) => name === 'allocate done').map(({ detail }) => detail);
    t.match(chosen, [
      { attempt: 1, placement: /^10\.\d+ \(cold 10, waste 0\.\d+\)$/ },
      { attempt: 2, placement: /tenant-in-rack 100, new-in-rack 20, cold 10/ },
    ]);
    t.equal(
      stages[0]?.startedAt,
      view.attempts[1]?.attempt.created_at,
      'the stages are those of the attempt that came to its end',
    );
  },
);

const ECC = { part: 'memory', event: 'Uncorrectable ECC', sensor: 1 } as const;

sqliteStore(
  'a machine whose BMC records a fault in a boot that fails is set aside, and what was recorded before blames nobody',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 3 });
    const [first, second] = pipeline.rack;
    for (const machine of [first!, second!]) machine.eventLog.push({ ...ECC, record: 4 });
    first!.atHop = (hop) => {
      if (hop !== 'image') return undefined;
      first!.eventLog.push({ ...ECC, record: 5 });
      return 'silent';
    };
    fails(second, 'image', 'silent');
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'completed');
    await isTold(t, pipeline, id, ['machine', 'unknown']);
    await pipeline.untilMachine('quarantined');
    t.match(await pipeline.machine(), { quarantine_reason: /memory: .* says Uncorrectable ECC \(entry 5\)/ });
    await pipeline.untilMachine('available', 1);
    const [attempt] = await attemptsOf(store.read, id);
    const { diagnosis } = (JSON.parse(attempt?.failure ?? '') as { details: { diagnosis: unknown } }).details;
    const line = /bmc hardware-fault part=memory event=Uncorrectable ECC /;
    t.match(diagnosis, { findings: [{ cause: 'hardware-fault', blame: 'machine', evidence: [line] }] });
    await pipeline.isHealthy(t);
  },
);

sqliteStore('a fault is found before forty entries that tell of none, and behind them', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 3 });
  const [first, second] = pipeline.rack;
  const harmless = (from: number) => Array.from({ length: 40 }, (_, index) => ({ record: from + index }));
  first!.atHop = (hop) => (hop === 'image' ? logs(first, { ...ECC, record: 1 }, ...harmless(2)) : undefined);
  second!.atHop = (hop) => (hop === 'image' ? logs(second, ...harmless(1), { ...ECC, record: 41 }) : undefined);
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  await isTold(t, pipeline, id, ['machine', 'machine']);
  await pipeline.isHealthy(t);
});

sqliteStore('an event log without an end is read for so long, and what it told counts', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 2 });
  const [first] = pipeline.rack;
  let read = 0;
  first!.atEventLog = () => {
    if (first!.eventLog.length === 0) return;
    read += 1;
    clock.jump(SECOND);
    logs(first, ...harmless(first!.eventLog.length + 1));
  };
  first!.atHop = (hop) => (hop === 'image' ? logs(first, { ...ECC, record: 1 }) : undefined);
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  await isTold(t, pipeline, id, ['machine']);
  t.equal(read, 15);
  await pipeline.isHealthy(t);
});

sqliteStore(
  'a BMC without an event log, and one whose log hangs, hold nothing up and blame nobody',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 3 });
    const [first, second] = pipeline.rack;
    first!.atEventLog = () => Promise.reject(new RackstartError('bmc.refused', 'invalid command'));
    second!.atEventLog = () => {
      void clock.advance(3 * SECOND);
      return new Promise(() => undefined);
    };
    fails(first, 'image', badStage);
    fails(second, 'image', badStage);
    const began = clock.now();
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'completed');
    await isTold(t, pipeline, id, ['unknown', 'unknown']);
    t.ok(clock.now() - began < 10 * SECOND, `it took ${String(clock.now() - began)} ms`);
    await pipeline.isHealthy(t);
  },
);

sqliteStore('a BMC that lets nobody in is asked no second time', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 2 });
  const [first] = pipeline.rack;
  const asked: string[] = [];
  const locked = (what: string) => {
    asked.push(what);
    return Promise.reject(new RackstartError('bmc.auth', 'another password'));
  };
  first!.atEventLog = () => locked('event log');
  first!.atCommand = (command) => (command.startsWith('boot pxe') ? locked(command) : undefined);
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  t.same(asked, ['event log']);
  await isTold(t, pipeline, id, ['machine']);
});

/** Forty entries that tell of no fault. */
function harmless(from: number): { record: number }[] {
  return Array.from({ length: 40 }, (_, index) => ({ record: from + index }));
}

/** Its BMC records these, and it says nothing any more. */
function logs(machine: RackMachine | undefined, ...entries: RackMachine['eventLog']): 'silent' {
  machine?.eventLog.push(...entries);
  return 'silent';
}

/** The request moved on so often, blaming that, from attempt to attempt, and states and events say the same. */
async function isTold(t: Test, pipeline: Pipeline, id: string, blamed: readonly string[]): Promise<void> {
  const events: EventRecord[] = (await pipeline.events()).filter(({ key }) => key === id);
  const attempts = await attemptsOf(pipeline.store.read, id);
  const moves = events.filter(({ type }) => type === 'provisioning.attempt-moved').map(({ data }) => data);
  t.match(
    moves,
    blamed.map((blame, index) => ({
      from: attempts[index]?.id,
      to: attempts[index + 1]?.id,
      attempt: index + 2,
      blame,
    })),
  );
  t.equal(moves.length, blamed.length);
  const states = events
    .filter(({ type }) => type === 'request.state-changed')
    .map(({ data }) => data as { from: string; to: string });
  for (const [index, { from }] of states.entries()) if (index > 0) t.equal(from, states[index - 1]?.to);
  t.equal(states.filter(({ to }) => to === 'allocating').length, blamed.length + 1);
  t.equal(events.filter(({ type }) => type === 'provisioning.started').length, 1);
}

function quota({ store }: Pipeline) {
  return store.read.selectFrom('quotas').selectAll().where('tenant_id', '=', 't1').executeTakeFirstOrThrow();
}
