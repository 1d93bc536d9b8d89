import type { Test } from 'tap';

import { HOUR, MINUTE, SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import { silentLog } from '../kernel/log.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import type { Hop } from '../machines/rack.fixture.ts';
import type { DeployStageRow, TimelineRow } from '../store/schema.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { TIMES_KEPT, deployTimeRecorder } from './deploy-times.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { serverTimeline } from './server-timeline.ts';
import { viewServer } from './server-view.ts';

eachStore("a completed deploy's stages are written as its timeline tells them", async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const { id, attemptId } = await deploy(pipeline);
  await recorded(t, pipeline);

  const { stages } = await serverTimeline(store.read, await viewServer(store.read, id));
  const times = (await timesByAttempt(pipeline))[attemptId] ?? {};
  t.match(times, { dhcp: 3 * SECOND, loader: SECOND, script: 0, ramdisk: 9 * SECOND, image: 20 * SECOND });
  t.same(
    stages.map(({ name }) => times[name]),
    stages.map(({ startedAt, endedAt }) => endedAt! - startedAt),
  );
  t.equal(times['boot-command'], times['admit']! + times['power']!);
  t.equal(times['total'], stages.at(-1)!.endedAt! - stages[0]!.startedAt, 'from the API call to SSH');
  const [row] = await rows(pipeline);
  t.match(row, { tenant_id: 't1', region_id: 'reg1', model: 'D1', firmware: 'uefi', path: 'cold' });
});

eachStore('replayed from its beginning, the log gives the same rows', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 2 });
  await deploy(pipeline);
  const { id } = await deploy(pipeline);
  await recorded(t, pipeline);
  const before = await rows(pipeline);
  t.equal(new Set(before.map(({ attempt_id }) => attempt_id)).size, 2);
  await pipeline.release(id);
  await pipeline.untilRequest(id, 'deprovisioned');

  await store.transaction((tx) => tx.deleteFrom('cursors').execute());
  await recorded(t, pipeline);
  t.same(await rows(pipeline), before, 'beside what is there');
  await store.transaction(async (tx) => {
    await tx.deleteFrom('cursors').execute();
    await tx.deleteFrom('deploy_stages').execute();
  });
  await recorded(t, pipeline);
  t.same(await rows(pipeline), before, 'and from nothing, though one of the servers is gone');
});

sqliteStore('packets that are written after the deploy has completed still count', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const { attemptId, packets } = await deploy(pipeline, { packets: 'late' });
  await recorded(t, pipeline, {
    meanwhile: async () => {
      for (let turns = 0; turns < 100; turns += 1) await clock.advance(0);
      t.same(await rows(pipeline), [], 'they are waited for');
      await write(pipeline, attemptId, packets);
    },
  });
  t.match((await timesByAttempt(pipeline))[attemptId], { dhcp: 3 * SECOND, ramdisk: 9 * SECOND });
});

sqliteStore('where packets were lost the firmware has no times, and all else has', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const { attemptId } = await deploy(pipeline, { packets: 'lost' });
  await recorded(t, pipeline);
  const times = (await timesByAttempt(pipeline))[attemptId] ?? {};
  for (const stage of ['dhcp', 'loader', 'script', 'ramdisk']) t.notOk(stage in times, stage);
  for (const stage of ['admit', 'power', 'image', 'boot', 'ssh', 'boot-command', 'total']) t.ok(stage in times, stage);
});

sqliteStore('a deploy that fails is none that took its time', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const failure = { code: 'image.digest', reason: 'It is another one.' };
  pipeline.rack[0]!.atHop = (hop) => (hop === 'image' ? failure : undefined);
  const failed = await pipeline.order();
  await pipeline.untilRequest(failed, 'rolled-back');
  await pipeline.untilMachine('available');
  const { attemptId } = await deploy(pipeline);
  await recorded(t, pipeline);
  t.same(Object.keys(await timesByAttempt(pipeline)), [attemptId]);
});

sqliteStore('times are forgotten after 30 days, and none so old is written again', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 2 });
  const old = await deploy(pipeline);
  const oldEnd = clock.now();
  await clock.advance(HOUR);
  const young = await deploy(pipeline);
  const recordedAt = async (now: Millis) => {
    await store.transaction((tx) => tx.deleteFrom('cursors').execute());
    await recorded(t, pipeline, { clock: new ManualClock(now) });
    return Object.keys(await timesByAttempt(pipeline));
  };
  t.same(await recordedAt(oldEnd + TIMES_KEPT - MINUTE), [old.attemptId, young.attemptId]);
  t.same(await recordedAt(oldEnd + TIMES_KEPT + MINUTE), [young.attemptId]);
  await store.transaction((tx) => tx.deleteFrom('deploy_stages').execute());
  t.same(await recordedAt(oldEnd + 2 * TIMES_KEPT), []);
});

/** How long the machine of these tests takes to come by. */
const hopTimes: Partial<Record<Hop, Millis>> = {
  dhcp: 3 * SECOND,
  script: SECOND,
  claim: 9 * SECOND,
  image: 20 * SECOND,
  boot: 25 * SECOND,
};

type Packet = Pick<TimelineRow, 'at' | 'source' | 'name' | 'detail'>;

/** A server on a machine that takes its time, and the packets of its firmware on the timeline. */
async function deploy(
  pipeline: Pipeline,
  { packets: fate = 'written' }: { packets?: 'written' | 'late' | 'lost' } = {},
): Promise<{ id: string; attemptId: string; packets: readonly Packet[] }> {
  const { clock, store } = pipeline;
  const packets: Packet[] = [];
  for (const machine of pipeline.rack) {
    machine.atHop = async (hop) => {
      await clock.advance(hopTimes[hop] ?? 0);
      const at = clock.now();
      if (hop === 'dhcp') packets.push({ at, source: 'dhcp', name: 'ack', detail: '{"boot":"snponly.efi"}' });
      if (hop === 'script') packets.push({ at, source: 'http', name: 'script', detail: '{"ms":0}' });
      return undefined;
    };
  }
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  const attemptId = (await viewServer(store.read, id)).attempts[0]!.attempt.id;
  if (fate === 'written') await write(pipeline, attemptId, packets);
  return { id, attemptId, packets };
}

async function write({ store, ids }: Pipeline, attemptId: string, packets: readonly Packet[]): Promise<void> {
  const { id, machine_id } = await store.read
    .selectFrom('boot_sessions')
    .innerJoin('boot_orders', 'boot_orders.id', 'boot_sessions.order_id')
    .select(['boot_sessions.id', 'boot_sessions.machine_id'])
    .where('boot_orders.attempt_id', '=', attemptId)
    .executeTakeFirstOrThrow();
  const of = packets.map((packet) => ({ ...packet, id: ids.next('tl'), machine_id, session_id: id, packet: null }));
  await store.transaction((tx) => tx.insertInto('timeline').values(of).execute());
}

/** Runs the consumer until it has read the whole log. */
async function recorded(
  t: Test,
  pipeline: Pipeline,
  { clock = pipeline.clock, meanwhile = () => Promise.resolve() } = {},
): Promise<void> {
  const { store } = pipeline;
  await pipeline.settle();
  const { events } = pipeline.daemon.process;
  const ending = new AbortController();
  const running = deployTimeRecorder({ store, events, clock, log: silentLog }).run(ending.signal);
  await meanwhile();
  const last = await events.position();
  const isRead = async () => {
    const cursor = await store.read.selectFrom('cursors').select('position').executeTakeFirst();
    return cursor?.position === last;
  };
  for (let turns = 0; turns < 1000 && !(await isRead()); turns += 1) await clock.advance(SECOND);
  t.ok(await isRead(), 'the log was read');
  ending.abort();
  await running;
}

function rows({ store }: Pipeline): Promise<DeployStageRow[]> {
  return store.read.selectFrom('deploy_stages').selectAll().orderBy('attempt_id').orderBy('stage').execute();
}

async function timesByAttempt(pipeline: Pipeline): Promise<Record<string, Record<string, Millis>>> {
  const attempts: Record<string, Record<string, Millis>> = {};
  for (const { attempt_id, stage, milliseconds } of await rows(pipeline)) {
    attempts[attempt_id] = { ...attempts[attempt_id], [stage]: milliseconds };
  }
  return attempts;
}
