import { RackstartError } from '../kernel/errors.ts';
import type { Inspection } from '../../pxe/boot-plan.ts';
import { eachStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';

eachStore('an inspection writes the hardware down and makes the machine available', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { inspected: false });
  const [machine] = pipeline.rack;
  const nics = [...machine!.inspection.nics, { name: 'eth1', mac: '52:54:00:88:00:01' as never, up: false }];
  machine!.inspection = { ...machine!.inspection, uuid: machine!.uuid.toUpperCase(), nics };
  await inspect(pipeline);
  await pipeline.untilMachine('available');
  t.match(await pipeline.machine(), {
    cores: 8,
    memory_mib: 16_384,
    smbios_uuid: machine!.uuid,
    vendor: 'Double',
    firmware: 'uefi',
  });
  t.match(await store.read.selectFrom('machine_disks').selectAll().execute(), [
    { name: 'sda', bytes: 500 * 1024 ** 3, type: 'ssd' },
  ]);
  t.match(await store.read.selectFrom('machine_nics').selectAll().orderBy('mac').execute(), [
    { name: 'eth0', role: 'both', speed_mbps: 10_000 },
    { name: 'eth1', role: 'customer', speed_mbps: null },
  ]);
  t.equal(machine!.state, 'off');
  t.same(machine!.commands, ['boot pxe once and reset', 'power off', 'clear boot override']);

  machine!.inspection = { ...machine!.inspection, cores: 16 };
  await inspect(pipeline);
  await pipeline.untilMachine('available');
  t.match(await pipeline.machine(), { cores: 16, smbios_uuid: machine!.uuid }, 'again, when something was built in');
  await pipeline.isHealthy(t);
});

const refused: readonly { title: string; change: (pipeline: Pipeline) => Partial<Inspection> }[] = [
  { title: 'with the SMBIOS UUID of another machine', change: ({ rack }) => ({ uuid: rack[1]!.uuid }) },
  { title: 'with a NIC of another machine', change: ({ rack }) => ({ nics: rack[1]!.inspection.nics }) },
];
for (const { title, change } of refused) {
  eachStore(`an inspection ${title} is refused, and the machine set aside`, async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
    const machine = await pipeline.addMachine('new', { inspected: false });
    await pipeline.addMachine('known');
    machine.inspection = { ...machine.inspection, ...change(pipeline) };
    await inspect(pipeline);
    await pipeline.untilMachine('quarantined');
    t.same(machine.refusals, ['boot.mismatch']);
    t.match(await pipeline.machine(), { smbios_uuid: null, cores: null, quarantine_reason: /turned away/ });
    t.match(await pipeline.machine(1), { state: 'available', cores: 8 });
    t.match(
      await store.read.selectFrom('machine_nics').selectAll().where('mac', '=', pipeline.rack[1]!.mac).execute(),
      [{ machine_id: pipeline.machineIds[1], name: 'eth0' }],
    );
    await pipeline.isHealthy(t);
  });
}

eachStore(
  'a machine does not change its SMBIOS UUID, whatever it says after its claim',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    machine!.inspection = { ...machine!.inspection, uuid: '11111111-2222-4333-8444-555555555555' };
    await inspect(pipeline);
    await pipeline.untilMachine('quarantined');
    t.match(await pipeline.machine(), { smbios_uuid: machine!.uuid });
    await pipeline.isHealthy(t);
  },
);

for (const verb of ['inspect', 'wipe'] as const) {
  eachStore(
    `a machine that fails its ${verb} is quarantined until an operator has looked`,
    async (t, store, { clock }) => {
      const pipeline = await Pipeline.open(t, store, clock);
      const [machine] = pipeline.rack;
      const failing = async () => {
        machine!.atHop = (hop) => (hop === verb ? { code: 'boot.stage-failed', reason: 'sda: I/O error' } : undefined);
        if (verb === 'inspect') return inspect(pipeline);
        const id = await pipeline.order();
        await pipeline.untilRequest(id, 'completed');
        await pipeline.release(id);
      };
      await failing();
      await pipeline.untilMachine('quarantined');
      t.match(await pipeline.machine(), {
        quarantine_reason: /I\/O error/,
        disk_state: verb === 'wipe' ? 'dirty' : 'clean',
      });
      t.equal(machine!.state, 'off');
      const alerts = (await pipeline.events()).filter(({ type }) => type === 'alert.raised');
      const [unfit, ...failed] = verb === 'wipe' ? alerts : [undefined, ...alerts];
      t.match(unfit?.data, verb === 'wipe' ? { code: 'machine.unfit' } : undefined, 'a wipe that failed is an issue');
      t.match(failed, [{ key: pipeline.machineIds[0], data: { code: 'boot.stage-failed', message: /I\/O error/ } }]);

      machine!.atHop = () => undefined;
      const { care } = pipeline.daemon;
      if (verb === 'inspect') await t.rejects(inspect(pipeline), { code: 'state.conflict' }, 'it is sticky');
      const id = await pipeline.order();
      await pipeline.untilRequest(id, 'rolled-back');
      t.match(await pipeline.machine(), { state: 'quarantined' }, 'and serves nobody');
      if (verb === 'wipe') {
        await store.transaction((tx) => care.startWipe(tx, pipeline.machineIds[0]!));
        await pipeline.untilMachine('available');
        t.match(await pipeline.machine(), { disk_state: 'clean', quarantine_reason: null });
        t.equal(machine!.system, undefined);
      }
      await pipeline.isHealthy(t);
    },
  );
}

eachStore(
  'a machine that cannot be switched off after its wipe is quarantined, and counts as dirty',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'completed');
    machine!.atHop = (hop) => {
      const dead = new RackstartError('bmc.unreachable', 'BMC 192.0.2.1:623 does not answer');
      if (hop === 'wipe') machine!.atCommand = () => Promise.reject(dead);
      return undefined;
    };
    await pipeline.release(id);
    await pipeline.untilMachine('quarantined');
    t.match(await pipeline.machine(), { disk_state: 'dirty', quarantine_reason: /192\.0\.2\.1/ });
    await pipeline.isHealthy(t);
  },
);

eachStore(
  'a BMC that is busy for a moment leaves no machine on that failed its inspection',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    let refused = 0;
    machine!.atHop = (hop) => {
      if (hop !== 'inspect') return undefined;
      const busy = new RackstartError('bmc.busy', 'BMC 192.0.2.1:623 is busy');
      machine!.atCommand = () => (refused++ === 0 ? Promise.reject(busy) : Promise.resolve());
      return { code: 'boot.stage-failed', reason: 'sda: I/O error' };
    };
    await inspect(pipeline);
    await pipeline.untilMachine('quarantined');
    t.match(await pipeline.machine(), { quarantine_reason: /I\/O error/ });
    t.equal(machine!.state, 'off');
    t.ok(refused > 1, 'it was asked again');
    await pipeline.isHealthy(t);
  },
);

async function inspect({ store, daemon, machineIds }: Pipeline): Promise<void> {
  await store.transaction((tx) => daemon.care.startInspection(tx, machineIds[0]!));
}
