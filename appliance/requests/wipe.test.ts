import { hash } from 'node:crypto';

import { RackstartError } from '../kernel/errors.ts';
import { openIssues } from '../machines/machine-issues.ts';
import { wipesOf } from '../machines/wipe-certificates.ts';
import { eachStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';

eachStore('a wipe leaves a certificate of each disk', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  await deployed(pipeline);
  const second = { ...machine!.inspection.disks[0]!, name: 'sdb', serial: 'S2' };
  machine!.inspection = { ...machine!.inspection, disks: [...machine!.inspection.disks, second] };
  await pipeline.release(await only(pipeline));
  await pipeline.untilMachine('available');
  const digest = hash('sha256', Buffer.alloc(512));
  const passed = { method: 'discard', samples: 1, sampled_bytes: 512, digest, result: 'passed', reason: null };
  const wipes = await wipesOf(store.read, pipeline.machineIds[0]!, 10);
  t.match(
    wipes.sort((one, other) => one.disk.localeCompare(other.disk)),
    [
      { disk: 'sda', serial: 'S1', model: 'M1', bytes: 500 * 1024 ** 3, ...passed },
      { disk: 'sdb', serial: 'S2', ...passed },
    ],
  );
  t.match(wipes[0]!.seed, /^[0-9a-f]{32}$/);
  t.equal(wipes[0]!.ended_at - wipes[0]!.started_at, 1_000);
  t.same(await openIssues(store.read, pipeline.machineIds[0]!), []);
  await pipeline.isHealthy(t);
});

eachStore('a disk that cannot be wiped is told loudly, and keeps its machine out', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  await deployed(pipeline);
  machine!.erasure = { failure: 'it still holds data after wiping', digest: 'f'.repeat(64) };
  await pipeline.release(await only(pipeline));
  await pipeline.untilMachine('quarantined');
  t.match(await pipeline.machine(), { disk_state: 'dirty', quarantine_reason: /still holds data/ });
  const id = pipeline.machineIds[0]!;
  t.match(await openIssues(store.read, id), [
    { type: 'wipe-failed', message: 'sda (serial S1): it still holds data after wiping.' },
  ]);
  const [certificate] = await wipesOf(store.read, id, 10);
  t.match(certificate, { result: 'failed', reason: 'it still holds data after wiping' });
  const alerts = (await pipeline.events()).filter(({ type }) => type === 'alert.raised').map(({ data }) => data);
  t.match(JSON.stringify(alerts), /machine\.unfit.*still holds data/);

  machine!.erasure = {};
  await readmit(pipeline);
  await pipeline.untilMachine('available');
  t.same(await openIssues(store.read, id), [], 'until it is proven');
  t.match(await pipeline.machine(), { disk_state: 'clean' });
  await pipeline.isHealthy(t);
});

eachStore('a ramdisk that says done and certifies nothing has wiped nothing', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  await deployed(pipeline);
  const whole = machine!.inspection;
  machine!.inspection = { ...whole, disks: [] };
  await pipeline.release(await only(pipeline));
  await pipeline.untilMachine('quarantined');
  t.match(await pipeline.machine(), { disk_state: 'dirty', quarantine_reason: /without telling of any disk/ });
  t.match(await openIssues(store.read, pipeline.machineIds[0]!), [{ type: 'wipe-failed' }]);
  await pipeline.isHealthy(t);
});

eachStore('a certificate of other bytes than zeros is none', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  await deployed(pipeline);
  machine!.erasure = { digest: hash('sha256', Buffer.alloc(512, 1)) };
  await pipeline.release(await only(pipeline));
  await pipeline.untilMachine('quarantined');
  t.same(machine!.refusals, ['request.invalid']);
  t.same(await wipesOf(store.read, pipeline.machineIds[0]!, 10), []);
  t.match(await openIssues(store.read, pipeline.machineIds[0]!), [{ type: 'wipe-failed' }]);
});

eachStore('a disk that was not there to be wiped is missed', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  const whole = machine!.inspection;
  // Too small for the machine's disk rule: it is not asked which of them is the root.
  const second = { ...whole.disks[0]!, name: 'sdb', serial: 'S2', bytes: 512 * 1024 ** 2 };
  machine!.inspection = { ...whole, disks: [...whole.disks, second] };
  await store.transaction((tx) => pipeline.daemon.care.startInspection(tx, pipeline.machineIds[0]!));
  await pipeline.untilMachine('available');
  await deployed(pipeline);
  machine!.inspection = whole;
  await pipeline.release(await only(pipeline));
  await pipeline.untilMachine('quarantined');
  const open = await openIssues(store.read, pipeline.machineIds[0]!);
  t.match(
    open.filter(({ severity }) => severity === 'critical'),
    [{ type: 'disk-missing', message: /sdb, serial S2/ }],
  );
  t.match(await pipeline.machine(), { disk_state: 'clean' }, 'what was there is clean');
  await pipeline.isHealthy(t);
});

eachStore('a machine that never came to its wipe is told as loudly', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  await deployed(pipeline);
  machine!.atHop = (hop) => {
    const dead = new RackstartError('bmc.unreachable', 'BMC 192.0.2.1:623 does not answer');
    if (hop === 'wipe') machine!.atCommand = () => Promise.reject(dead);
    return hop === 'wipe' ? { code: 'boot.stage-failed', reason: 'killed' } : undefined;
  };
  await pipeline.release(await only(pipeline));
  await pipeline.untilMachine('quarantined');
  t.match(await openIssues(store.read, pipeline.machineIds[0]!), [{ type: 'wipe-failed', message: /killed/ }]);
  await pipeline.isHealthy(t);
});

async function deployed(pipeline: Pipeline): Promise<void> {
  await pipeline.untilRequest(await pipeline.order(), 'completed');
}

async function only({ store }: Pipeline): Promise<string> {
  const { id } = await store.read.selectFrom('requests').select('id').executeTakeFirstOrThrow();
  return id;
}

async function readmit({ store, daemon, machineIds }: Pipeline): Promise<void> {
  await store.transaction((tx) => daemon.care.startReadmission(tx, machineIds[0]!, 'key_1'));
}
