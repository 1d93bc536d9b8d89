import type { Test } from 'tap';

import { SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import { silentLog } from '../kernel/log.ts';
import { bootTimeRecorder } from '../machines/boot-times.ts';
import type { Hop } from '../machines/rack.fixture.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';

eachStore(
  'what the stages of an install took is kept by hardware, and told again it stays',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    takesItsTime(pipeline, { packets: true });
    await pipeline.untilRequest(await pipeline.order(), 'completed');
    const times = await recorded(t, pipeline);
    t.match(times, { dhcp: 3_000, loader: 1_000, ramdisk: 9_000, disk: 2_000, image: 20_000, grow: 0, boot: 25_000 });
    t.ok(times['ssh'] !== undefined);
    t.match(await store.read.selectFrom('stage_times').selectAll().execute(), [{ model: 'D1', firmware: 'uefi' }]);
    await store.transaction((tx) => tx.deleteFrom('cursors').execute());
    t.same(await recorded(t, pipeline), times);
  },
);

sqliteStore("an inspection's way into the ramdisk counts as much as an install's", async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { inspected: false });
  takesItsTime(pipeline, { packets: true });
  const { care } = pipeline.daemon;
  await store.transaction((tx) => care.startInspection(tx, pipeline.machineIds[0] ?? ''));
  await pipeline.untilMachine('available');
  t.same(await recorded(t, pipeline), { dhcp: 3_000, loader: 1_000, ramdisk: 9_000 });
});

sqliteStore('where packets were lost nobody guesses what the firmware took', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  takesItsTime(pipeline, { packets: false });
  await pipeline.untilRequest(await pipeline.order(), 'completed');
  const times = await recorded(t, pipeline);
  for (const stage of ['dhcp', 'loader', 'ramdisk']) t.notOk(stage in times, stage);
  t.match(times, { grow: 0, boot: 25_000 });
});

const hopTimes: Partial<Record<Hop, Millis>> = {
  dhcp: 3 * SECOND,
  script: SECOND,
  claim: 9 * SECOND,
  disk: 2 * SECOND,
  image: 20 * SECOND,
  boot: 25 * SECOND,
};

/** The machine takes its time, and the boot plane tells of what it hears. */
function takesItsTime(pipeline: Pipeline, { packets }: { packets: boolean }): void {
  const { clock, rack } = pipeline;
  rack[0]!.atHop = async (hop) => {
    if (packets && hop === 'image') await tell(pipeline, 'ramdisk', 'image started', {});
    await clock.advance(hopTimes[hop] ?? 0);
    if (packets && hop === 'dhcp') await tell(pipeline, 'dhcp', 'ack', { boot: 'snponly.efi' });
    if (packets && hop === 'script') await tell(pipeline, 'http', 'script', { ms: 0 });
    return undefined;
  };
}

async function tell(
  { store, ids, clock, machineIds }: Pipeline,
  source: 'dhcp' | 'http' | 'ramdisk',
  name: string,
  detail: object,
): Promise<void> {
  const [machineId = ''] = machineIds;
  await store.transaction(async (tx) => {
    const { id } = await tx
      .selectFrom('boot_sessions')
      .select('id')
      .where('machine_id', '=', machineId)
      .where('ended_at', 'is', null)
      .executeTakeFirstOrThrow();
    const entry = { id: ids.next('tl'), machine_id: machineId, session_id: id, at: clock.now(), source, name };
    await tx
      .insertInto('timeline')
      .values({ ...entry, detail: JSON.stringify(detail), packet: null })
      .execute();
  });
}

/** Milliseconds by stage, when the consumer has read the whole log. */
async function recorded(t: Test, pipeline: Pipeline): Promise<Record<string, Millis>> {
  const { store, clock } = pipeline;
  await pipeline.settle();
  const { events } = pipeline.daemon.process;
  const ending = new AbortController();
  const running = bootTimeRecorder({ store, events, clock, log: silentLog }).run(ending.signal);
  const last = await events.position();
  const isRead = async () => {
    const cursor = await store.read.selectFrom('cursors').select('position').executeTakeFirst();
    return cursor?.position === last;
  };
  for (let turns = 0; turns < 1000 && !(await isRead()); turns += 1) await clock.advance(SECOND);
  t.ok(await isRead(), 'the log was read');
  ending.abort();
  await running;
  const rows = await store.read.selectFrom('stage_times').select(['stage', 'milliseconds']).execute();
  return Object.fromEntries(rows.map(({ stage, milliseconds }) => [stage, milliseconds]));
}
