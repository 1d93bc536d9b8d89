import { MINUTE, SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import type { WatchedStage } from '../machines/boot-deadlines.ts';
import type { Hop } from '../machines/rack.fixture.ts';
import type { TimedBoot } from '../machines/stage-times.fixture.ts';
import { timedBoots } from '../machines/stage-times.fixture.ts';
import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { BOOT_WINDOW, STAGE_DEADLINE } from './daemon.fixture.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { findRequest } from './request-records.ts';

/** Where a machine dies, the stage that is then late, and what of its boot the timeline has by then. */
const deaths: readonly { hop: Hop; stage: WatchedStage; packets?: 'ack' }[] = [
  { hop: 'dhcp', stage: 'dhcp' },
  { hop: 'script', stage: 'loader', packets: 'ack' },
  { hop: 'claim', stage: 'ramdisk' },
  { hop: 'disk', stage: 'disk' },
  { hop: 'image', stage: 'image' },
  { hop: 'grow', stage: 'grow' },
  { hop: 'inject', stage: 'inject' },
];

/** What 99 in 100 machines of these tests take for each: none the same, and all above the floor. */
const usual = (stage: WatchedStage) => (20 + deaths.findIndex((death) => death.stage === stage)) * SECOND;

for (const { hop, stage, packets } of deaths) {
  // One of them says whether both databases keep it alike.
  const onStores = stage === 'image' ? eachStore : sqliteStore;
  onStores(`a machine that dies in stage ${stage} is missed by what its model takes`, async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    await measured(pipeline);
    let diedAt: Millis | undefined;
    machine!.atHop = async (at) => {
      if (at !== hop) return undefined;
      diedAt = clock.now();
      if (packets === 'ack') await firmwareWasAddressed(store, pipeline);
      return 'silent';
    };
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'failed', 'rolling-back', 'rolled-back');
    const failure = JSON.parse((await findRequest(store.read, id)).failure ?? '') as Failure;
    const allowed = 3.3 * usual(stage);
    t.match(failure, {
      code: 'boot.stage-late',
      details: { stage, allowedMs: allowed, p99Ms: usual(stage), samples: 100, basis: 'measured', model: 'D1' },
    });
    t.match(failure.message, new RegExp(`in stage ${stage} for .* 99 in 100 boots of D1 take at most .*100 measured`));
    t.equal(failure.details.silentForMs, allowed, 'to the millisecond');
    const late = await store.read.selectFrom('stage_times').selectAll().where('outcome', '=', 'late').execute();
    t.match(late, [{ stage, milliseconds: allowed, ended_at: diedAt! + allowed, model: 'D1', firmware: 'uefi' }]);
    const alerts = await store.read.selectFrom('timeline').selectAll().where('name', '=', 'late').execute();
    t.match(
      alerts,
      [{ source: 'alert', detail: new RegExp(`"stage":"${stage}"`) }],
      'it is in the history of the boot',
    );
    await pipeline.untilMachine('available');
    await pipeline.isHealthy(t);
  });
}

sqliteStore('what is not known of a model is allowed what the stage is by default', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  pipeline.rack[0]!.atHop = (hop) => (hop === 'grow' ? 'silent' : undefined);
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'rolled-back');
  t.match(JSON.parse((await findRequest(store.read, id)).failure ?? ''), {
    message: /nothing is known of D1 yet/,
    details: { stage: 'grow', basis: 'cold', allowedMs: 2 * MINUTE, p99Ms: null },
  });
});

sqliteStore(
  'a stream that stands still is late, though the machine goes on telling so',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    await measured(pipeline);
    machine!.atHop = (hop) => (hop === 'image' ? 'silent' : undefined);
    const id = await pipeline.order();
    await pipeline.until('imaging', () => isIn(store, 'imaging'));
    const tell = async (bytes: number) => {
      await clock.advance(10 * SECOND);
      const facts = { bytes: String(bytes) };
      const progress = { generation: 1, stage: 'image', status: 'progress', uptime: 1, facts } as const;
      await pipeline.daemon.director.report(machine!.bearer!, progress).catch(() => undefined);
      await pipeline.settle();
    };
    for (let report = 1; report <= 60; report += 1) await tell(report * 1_000);
    t.ok(await isIn(store, 'imaging'), 'ten minutes, for a model that takes 24 s a GiB, and it still moves');
    const movedAt = clock.now();
    for (let report = 1; report <= 20 && (await isIn(store, 'imaging')); report += 1) await tell(60_000 - report);
    t.notOk(await isIn(store, 'imaging'));
    t.ok(clock.now() - movedAt < 3.3 * usual('image') + 10 * SECOND);
    await pipeline.untilRequest(id, 'rolled-back');
  },
);

sqliteStore('a daemon that was away holds no silence of that time against a machine', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  await measured(pipeline);
  machine!.atHop = (hop) => (hop === 'grow' ? 'silent' : undefined);
  const id = await pipeline.order();
  await pipeline.until('growing', () => isIn(store, 'growing'));
  pipeline.kill();
  await clock.advance(8 * MINUTE);
  pipeline.restart();
  const back = clock.now();
  await pipeline.untilRequest(id, 'failed', 'rolling-back', 'rolled-back');
  const [late] = await store.read.selectFrom('stage_times').selectAll().where('outcome', '=', 'late').execute();
  t.match(late, { stage: 'grow', ended_at: back + 3.3 * usual('grow') });
});

sqliteStore('two boots of a model that were late give the third all the time there is', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  await measured(pipeline);
  pipeline.rack[0]!.atHop = (hop) => (hop === 'dhcp' ? 'silent' : undefined);
  const allowed: unknown[] = [];
  for (let order = 1; order <= 3; order += 1) {
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'rolled-back');
    await pipeline.untilMachine('available');
    await clock.advance(MINUTE);
    const { details } = JSON.parse((await findRequest(store.read, id)).failure ?? '') as Failure;
    allowed.push(details.allowedMs);
  }
  t.same(allowed, [3.3 * usual('dhcp'), 3.3 * usual('dhcp'), STAGE_DEADLINE]);
});

sqliteStore('a killed daemon that had found a boot late says so again', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  pipeline.rack[0]!.atHop = (hop) => (hop === 'grow' ? 'silent' : undefined);
  const id = await pipeline.order();
  await pipeline.until('growing', () => isIn(store, 'growing'));
  let writes = 0;
  pipeline.onPoint = (what) => {
    if (what !== 'written') return;
    void isIn(store, 'failed').then((failed) => {
      if (failed && (writes += 1) === 1) pipeline.restart();
    });
  };
  await pipeline.untilRequest(id, 'rolled-back');
  t.match(JSON.parse((await findRequest(store.read, id)).failure ?? ''), { code: 'boot.stage-late' });
  const late = await store.read.selectFrom('stage_times').select('stage').where('outcome', '=', 'late').execute();
  t.same(late, [{ stage: 'grow' }]);
});

interface Failure {
  readonly code: string;
  readonly message: string;
  readonly details: { readonly silentForMs: Millis; readonly allowedMs: Millis };
}

/** As if a hundred machines of this model had been through each stage. */
async function measured({ store, clock, machineIds }: Pipeline): Promise<void> {
  const [machineId = ''] = machineIds;
  const stages = Object.fromEntries(deaths.map(({ stage }) => [stage, usual(stage)]));
  const boot = { machineId, endedAt: clock.now() - BOOT_WINDOW, stages };
  await timedBoots(store, Array<TimedBoot>(100).fill(boot));
}

async function firmwareWasAddressed(store: Store, { machineIds, clock }: Pipeline): Promise<void> {
  const [machineId = ''] = machineIds;
  await store.transaction(async (tx) => {
    const session = await tx
      .selectFrom('boot_sessions')
      .select('id')
      .where('machine_id', '=', machineId)
      .where('ended_at', 'is', null)
      .executeTakeFirstOrThrow();
    const packet = { source: 'dhcp', name: 'ack', detail: JSON.stringify({ boot: 'ipxe.efi' }), packet: null } as const;
    await tx
      .insertInto('timeline')
      .values({ id: 'tl_ack', machine_id: machineId, session_id: session.id, at: clock.now(), ...packet })
      .execute();
  });
}

async function isIn(store: Store, state: string): Promise<boolean> {
  const session = await store.read
    .selectFrom('boot_sessions')
    .select('id')
    .where('state', '=', state)
    .where('ended_at', 'is', null)
    .executeTakeFirst();
  return session !== undefined;
}
