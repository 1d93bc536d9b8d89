import type { HealthCheck } from '../../pxe/boot-plan.ts';
import { RackstartError } from '../kernel/errors.ts';
import { openIssues, resolveIssue } from '../machines/machine-issues.ts';
import { eachStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';

const wrong: [title: string, Partial<HealthCheck>, type: string, setAside: boolean][] = [
  ['memory', { memory: { testedKib: 64, wrongBytes: 2 } }, 'memory-fault', true],
  ['a disk', { disks: [{ ...disk(), unreadableAt: 4096 }] }, 'disk-unreadable', true],
  ['a disk by its own word', { disks: [{ ...disk(), smart: 'failing' }] }, 'disk-smart-failing', true],
  ['its clock', { clockOffset: 86_400 }, 'clock-off', false],
];
for (const [title, health, type, setAside] of wrong) {
  eachStore(`a check that finds a fault in ${title} is an issue: ${type}`, async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    machine!.health = health;
    await inspect(pipeline);
    await pipeline.untilMachine(setAside ? 'quarantined' : 'available');
    t.match(await issues(pipeline), [{ type }]);
    t.equal(machine!.state, 'off');
    const alerts = (await pipeline.events()).filter(({ type: name }) => name === 'alert.raised');
    t.equal(alerts.length, setAside ? 1 : 0, 'an engineer is told of what sets a machine aside');
    machine!.health = {};
    if (setAside) {
      const id = await pipeline.order();
      await pipeline.untilRequest(id, 'rolled-back');
      t.match(await pipeline.machine(), { state: 'quarantined' }, 'nobody gets it');
      await readmit(pipeline);
    } else {
      await inspect(pipeline);
    }
    await pipeline.untilMachine('available');
    t.same(await issues(pipeline), [], 'a check that finds nothing resolves it');
    await pipeline.isHealthy(t);
  });
}

eachStore('an operator alone does not readmit a machine that fails its check again', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  machine!.health = { memory: { testedKib: 64, wrongBytes: 2 } };
  await inspect(pipeline);
  await pipeline.untilMachine('quarantined');
  const [{ id } = { id: '' }] = await issues(pipeline);
  for (const time of [1, 2]) {
    await readmit(pipeline);
    await pipeline.untilMachine('quarantined');
    t.match(await issues(pipeline), [{ id }], `it is the same issue after readmission ${time}`);
  }
  await store.transaction((tx) => resolved(pipeline, tx, 'memory-fault'));
  t.match(await pipeline.machine(), { state: 'quarantined' }, 'nor does a word that there is no issue');
  await readmit(pipeline);
  await pipeline.untilMachine('quarantined');
  t.match(await issues(pipeline), [{ type: 'memory-fault' }], 'the check does not take that word');
});

eachStore(
  'a disk that is gone is missed until it is back, or was taken out on purpose',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    const whole = machine!.inspection;
    const second = { ...whole.disks[0]!, name: 'sdb', serial: 'S2' };
    machine!.inspection = { ...whole, disks: [...whole.disks, second] };
    await inspect(pipeline);
    await pipeline.untilMachine('available');
    const both = machine!.inspection;

    machine!.inspection = whole;
    await inspect(pipeline);
    await pipeline.untilMachine('quarantined');
    t.match(await issues(pipeline), [{ type: 'disk-missing', message: /sdb, serial S2/ }]);
    await readmit(pipeline);
    await pipeline.untilMachine('quarantined');
    t.match(await issues(pipeline), [{ type: 'disk-missing' }], 'though the inventory is without it now');

    machine!.inspection = both;
    await readmit(pipeline);
    await pipeline.untilMachine('available');
    t.same(await issues(pipeline), [], 'it is back');

    machine!.inspection = whole;
    await inspect(pipeline);
    await pipeline.untilMachine('quarantined');
    await store.transaction((tx) => resolved(pipeline, tx, 'disk-missing'));
    await readmit(pipeline);
    await pipeline.untilMachine('available');
    t.same(await issues(pipeline), [], 'it was taken out');
  },
);

eachStore('a machine with a dirty disk is readmitted by a wipe, then by a check', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  machine!.atHop = (hop) => (hop === 'wipe' ? { code: 'boot.stage-failed', reason: 'sda: I/O error' } : undefined);
  await pipeline.release(id);
  await pipeline.untilMachine('quarantined');
  machine!.atHop = () => undefined;
  machine!.health = { memory: { testedKib: 64, wrongBytes: 2 } };
  await readmit(pipeline);
  await pipeline.untilMachine('quarantined');
  t.match(await pipeline.machine(), { disk_state: 'clean', quarantine_reason: /came back changed/ });
  machine!.health = {};
  await readmit(pipeline);
  await pipeline.untilMachine('available');
  t.same(machine!.decisions, ['install', 'wipe', 'wipe', 'inspect', 'inspect'], 'it was not wiped once more');
  t.equal(machine!.system, undefined);
  await pipeline.isHealthy(t);
});

eachStore('a ramdisk that ends its check without telling anything has checked nothing', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  await inspect(pipeline);
  await pipeline.untilMachine('available');
  await clock.advance(1_000);
  machine!.tellsHealth = false;
  await inspect(pipeline);
  await pipeline.untilMachine('quarantined');
  t.match(await pipeline.machine(), { quarantine_reason: /without telling anything/ });
});

eachStore('a BMC that refuses its password, or is silent, is an issue until it obeys', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  for (const [code, type] of [
    ['bmc.auth', 'bmc-refused'],
    ['bmc.unreachable', 'bmc-unreachable'],
  ] as const) {
    machine!.atCommand = () => Promise.reject(new RackstartError(code, 'BMC 192.0.2.1:623: no'));
    await inspect(pipeline);
    await pipeline.untilMachine('quarantined');
    t.match(await issues(pipeline), [{ type, message: 'BMC 192.0.2.1:623: no' }]);
    machine!.atCommand = () => undefined;
    await readmit(pipeline);
    await pipeline.untilMachine('available');
    t.same(await issues(pipeline), []);
  }
});

function disk(): HealthCheck['disks'][number] {
  return { name: 'sda', bytes: 500 * 1024 ** 3, serial: 'S1', smart: 'ok' };
}

/** That its hardware is other than at first is told beside them: see drift.test.ts. */
async function issues({ store, machineIds }: Pipeline) {
  return (await openIssues(store.read, machineIds[0]!)).filter(({ type }) => type !== 'inventory-drift');
}

function resolved(
  { daemon, machineIds, clock }: Pipeline,
  tx: Parameters<typeof resolveIssue>[0],
  type: 'memory-fault' | 'disk-missing',
) {
  const by = 'key_1';
  return resolveIssue(tx, daemon.process.events, { machineId: machineIds[0]!, type, by, at: clock.now() });
}

async function inspect({ store, daemon, machineIds }: Pipeline): Promise<void> {
  await store.transaction((tx) => daemon.care.startInspection(tx, machineIds[0]!));
}

async function readmit({ store, daemon, machineIds }: Pipeline): Promise<void> {
  await store.transaction((tx) => daemon.care.startReadmission(tx, machineIds[0]!, 'key_1'));
}
