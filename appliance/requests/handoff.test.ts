import type { Test } from 'tap';

import { MINUTE } from '../kernel/clock.ts';
import { setHandoff } from '../machines/handoffs.ts';
import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { eventOf } from './given-back.fixture.ts';
import { VERIFY_DEADLINE } from './daemon.fixture.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { findRequest } from './request-records.ts';

sqliteStore('a system that hangs in its kexec is started from its disk, and completes', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  hangsInKexec(pipeline);
  await completes(t, pipeline);
  const [machine] = pipeline.rack;
  const resets = machine!.commands.filter((command) => command.endsWith('reset'));
  t.same(resets, ['boot pxe once and reset', 'boot disk once and reset']);
  t.match(await memory(store), [{ model: 'D1', firmware: 'uefi', handoff: 'kexec', failures: 1, successes: 0 }]);
  t.match(
    await store.read.selectFrom('machine_issues').selectAll().execute(),
    [{ type: 'kexec-failing', severity: 'warning', evidence: /"failuresInARow":1/ }],
    'the machine has it on its record',
  );
  const [late] = await store.read.selectFrom('stage_times').selectAll().where('outcome', '=', 'late').execute();
  t.match(late, { stage: 'boot', milliseconds: VERIFY_DEADLINE }, 'the kexec was given what it may take, and no more');
  const told = await store.read
    .selectFrom('timeline')
    .select('detail')
    .where('name', '=', 'started from disk')
    .execute();
  t.match(told, [{ detail: /"after":"kexec"/ }]);
  await pipeline.isHealthy(t);
});

eachStore(
  'a model whose kexec fails twice goes by reset, until an operator says otherwise',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    hangsInKexec(pipeline);
    await again(t, pipeline);
    t.match(await memory(store), [{ handoff: 'kexec', failures: 1 }]);
    await again(t, pipeline);
    t.match(await memory(store), [{ handoff: 'reset', failures: 2, set_by: 'saga' }]);
    const events = await pipeline.events();
    t.match(eventOf(events, 'model.handoff-changed'), { data: { model: 'D1', firmware: 'uefi', handoff: 'reset' } });
    t.match(eventOf(events, 'alert.raised'), { data: { subject: 'D1', message: /2 kexecs in a row failed on D1/ } });

    const [machine] = pipeline.rack;
    machine!.atHop = () => undefined;
    machine!.commands.length = 0;
    await again(t, pipeline);
    t.same(machine!.handoffs, ['reset'], 'the order said so');
    t.ok(machine!.commands.includes('boot disk once'), 'and the firmware was told to start the disk');
    t.match(await memory(store), [{ handoff: 'reset', failures: 2 }], 'a reset that works says nothing of kexec');

    const { events: log } = pipeline.daemon.process;
    const change = { model: 'D1', firmware: 'uefi', handoff: 'kexec', actor: 'key_1', at: clock.now() } as const;
    await store.transaction((tx) => setHandoff(tx, log, change));
    await again(t, pipeline);
    t.same(machine!.handoffs, ['reset', 'kexec']);
    t.match(await memory(store), [{ handoff: 'kexec', failures: 0, successes: 1, set_by: 'key_1' }]);
    await pipeline.isHealthy(t);
  },
);

sqliteStore('a kexec that works in between makes the next failure the first', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  for (const hangs of [true, false, true]) {
    machine!.atHop = (hop) => (hangs && hop === 'kexec' ? 'silent' : undefined);
    await again(t, pipeline);
  }
  t.match(await memory(store), [{ handoff: 'kexec', failures: 1, successes: 1 }]);
});

sqliteStore('a system that starts neither way is not the fault of kexec', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  pipeline.rack[0]!.atHop = (hop) => (hop === 'boot' ? 'silent' : undefined);
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'rolled-back');
  t.match(JSON.parse((await findRequest(store.read, id)).failure ?? ''), {
    code: 'boot.stage-late',
    message: /stands still in stage restart/,
    details: { stage: 'restart' },
  });
  t.same(await memory(store), []);
  t.same(await store.read.selectFrom('machine_issues').select('type').execute(), []);
});

sqliteStore('the deadline of a handoff is on the disk before the jump', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  let due: unknown;
  pipeline.rack[0]!.atHop = async (hop) => {
    if (hop !== 'kexec') return undefined;
    due = await store.read.selectFrom('boot_sessions').select('proof_due').executeTakeFirst();
    return undefined;
  };
  const at = clock.now();
  await completes(t, pipeline);
  t.same(due, { proof_due: at + VERIFY_DEADLINE });
});

sqliteStore('a daemon that was away when the system came up resets no machine for it', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  let away = false;
  machine!.atHop = async (hop) => {
    if (hop !== 'phone-home' || away) return undefined;
    away = true;
    pipeline.kill();
    clock.jump(20 * MINUTE);
    pipeline.restart();
    // Nobody has heard the agent: it tries again within half a minute.
    await clock.advance(30_000);
    return undefined;
  };
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  t.same(
    machine!.commands.filter((command) => command.endsWith('reset')),
    ['boot pxe once and reset'],
  );
  t.match(await memory(store), [{ failures: 0, successes: 1 }]);
});

sqliteStore('a daemon killed between the reset and its record resets once more', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  hangsInKexec(pipeline);
  let killed = 0;
  machine!.onCommand = (command) => {
    if (command === 'boot disk once and reset' && (killed += 1) === 1) pipeline.restart();
  };
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  t.ok(machine!.commands.filter((command) => command === 'boot disk once and reset').length <= 2);
  const [known] = await memory(store);
  t.equal((known?.failures ?? 0) + (known?.successes ?? 0), 1, 'and is remembered once');
  await pipeline.isHealthy(t);
});

function hangsInKexec({ rack }: Pipeline): void {
  for (const machine of rack) machine.atHop = (hop) => (hop === 'kexec' ? 'silent' : undefined);
}

async function completes(t: Test, pipeline: Pipeline): Promise<string> {
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed', 'rolled-back');
  t.match(await findRequest(pipeline.store.read, id), { state: 'completed' });
  return id;
}

/** A server that comes, and goes. */
async function again(t: Test, pipeline: Pipeline): Promise<void> {
  const id = await completes(t, pipeline);
  await pipeline.release(id);
  await pipeline.untilRequest(id, 'deprovisioned');
  await pipeline.untilMachine('available');
}

function memory({ read }: Store) {
  return read.selectFrom('model_handoffs').selectAll().execute();
}
