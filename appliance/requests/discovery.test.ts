import { HOUR, SECOND } from '../kernel/clock.ts';
import { Secret } from '../kernel/secret.ts';
import { LINGER } from '../machines/enrolment/discovery-director.ts';
import { readManifest } from '../machines/enrolment/manifest-file.ts';
import { loadManifest } from '../machines/enrolment/manifest.ts';
import { openIssues } from '../machines/machine-issues.ts';
import type { RackMachine } from '../machines/rack.fixture.ts';
import type { AcceptRuleRow, DiscoveredMachineRow } from '../store/schema.ts';
import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { MOST_STRANGERS } from './daemon.fixture.ts';
import { Pipeline } from './pipeline.fixture.ts';

sqliteStore(
  'an unknown machine that is expected gets ready for orders by itself, through a kill at each write',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
    await expected(pipeline, 'S-1', 1);
    const machine = await stranger(pipeline, 'S-1');
    // Each daemon dies one write or effect later than the one before it.
    let [survives, seen] = [0, 0];
    pipeline.onPoint = () => {
      if ((seen += 1) > survives) pipeline.kill();
    };
    machine.restart('pxe');
    for (let daemons = 0; daemons < 200; daemons += 1) {
      await pipeline.settle().catch(() => undefined);
      const { process, discovery, died } = pipeline.daemon;
      if (!process.isDead()) await Promise.race([discovery.look(), died.promise]).catch(() => undefined);
      await pipeline.settle().catch(() => undefined);
      const [row] = await machines(store);
      if (row?.state === 'available') break;
      if (pipeline.daemon.process.isDead()) {
        [survives, seen] = [survives + 1, 0];
        pipeline.restart();
        continue;
      }
      const next = clock.nextWake();
      if (next !== undefined) await clock.advance(next - clock.now());
    }
    pipeline.onPoint = () => undefined;
    t.ok(survives > 5, `${String(survives)} daemons were killed`);
    t.match(await machines(store), [
      {
        name: 'm1',
        state: 'available',
        rack_id: 'rack1',
        serial: 'S-1',
        disk_state: 'clean',
        smbios_uuid: machine.uuid,
      },
    ]);
    t.match(await store.read.selectFrom('expected_machines').select('machine_id').execute(), [
      { machine_id: (await machines(store))[0]?.id },
    ]);
    t.same(machine.writes, [], 'nothing was written to its disk');
    t.equal(machine.state, 'off', 'it waits for its first order');
    await pipeline.isHealthy(t);
  },
);

eachStore(
  'one that nobody knows waits, until the manifest has it or an operator says what it is',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
    const first = await stranger(pipeline, 'S-1');
    const second = await stranger(pipeline, 'S-2');
    for (const machine of [first, second]) await boot(pipeline, machine);
    const [one, two] = await discovered(store);
    t.match(
      [one, two],
      [
        { state: 'waiting', mac: first.mac, reason: 'Neither manifest nor rule knows it.', serial: 'S-1' },
        { state: 'waiting', mac: second.mac },
      ],
    );
    t.same(await machines(store), []);
    t.same([...first.commands, ...second.commands], [], 'their BMCs were told nothing');

    await expected(pipeline, 'S-1', 1);
    await pipeline.daemon.discovery.look();
    const bmc = { kind: 'ipmi', address: '192.0.2.2', port: 623, username: 'admin', cipherSuite: 3 } as const;
    const accept = (name: string) =>
      store.transaction((tx) =>
        pipeline.daemon.discovery.accept(tx, two?.id ?? '', {
          ...{ name, rackId: 'rack1', nicRole: 'both', by: { actor: 'key_1' } },
          bmc: { ...bmc, password: new Secret('secret') },
        }),
      );
    await t.rejects(accept('m1'), { code: 'request.invalid' }, 'the manifest gave that name away');
    t.equal((await discovered(store))[1]?.state, 'waiting', 'and it waits on');
    await accept('other');
    await t.rejects(accept('again'), { code: 'state.conflict' });
    await pipeline.until('both are available', async () => {
      return (await machines(store)).every(({ state }) => state === 'available');
    });
    t.match(await machines(store), [{ name: 'm1' }, { name: 'other', serial: 'S-2' }]);
    await pipeline.isHealthy(t);
  },
);

eachStore(
  'what switches said by the end of the check is known of a machine that waits',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
    const machine = await stranger(pipeline, 'S-1');
    hears(machine, 'sw-7/eth4');
    await boot(pipeline, machine);
    const [waiting] = await discovered(store);
    t.match(JSON.parse(waiting?.facts ?? ''), { serial: 'S-1', nics: [{ mac: machine.mac, neighbour: 'sw-7/eth4' }] });
    await expected(pipeline, 'S-1', 1, 'sw-7/eth3');
    await pipeline.daemon.discovery.look();
    t.match(await discovered(store), [
      { state: 'waiting', reason: /switch port sw-7\/eth3, and here it is sw-7\/eth4/ },
    ]);
  },
);

eachStore(
  'a rule by switch and port takes a machine in once its switch was heard, and puts it in its rack',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
    await ruleBySwitch(store, 'leaf-3/eth*');
    const [near, far] = [await stranger(pipeline, 'S-1'), await stranger(pipeline, 'S-2')];
    for (const [index, machine] of [near, far].entries()) {
      machine.inspection = { ...machine.inspection, bmcAddress: `192.0.2.${String(index + 1)}` };
    }
    near.restart('pxe');
    await pipeline.until('the first has told of itself', async () => (await discovered(store)).length === 1);
    hears(near, 'leaf-3/eth7');
    hears(far, 'leaf-4/eth7');
    for (const machine of [near, far]) await boot(pipeline, machine);
    t.match(await machines(store), [{ name: 'leaf-s-1', rack_id: 'rack1', bmc_address: '192.0.2.1' }]);
    t.match(await discovered(store), [
      { state: 'enrolled' },
      { state: 'waiting', reason: /Neither manifest nor rule/ },
    ]);
    t.same(far.commands, [], 'the password was sent to no other BMC');
  },
);

eachStore(
  'who forges what an enrolled machine is takes nothing over, and an operator is told',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [owner] = pipeline.rack;
    const before = await pipeline.machine();
    const forger = await stranger(pipeline, before.serial ?? '');
    forger.inspection = { ...forger.inspection, uuid: owner?.uuid ?? '' };
    await boot(pipeline, forger);
    t.match(await discovered(store), [{ state: 'waiting', reason: /SMBIOS UUID of machine m1/ }]);
    t.match(await openIssues(store.read, before.id), [{ type: 'unexpected-machine', severity: 'warning' }]);
    const accept = store.transaction(async (tx) =>
      pipeline.daemon.discovery.accept(tx, (await discovered(store))[0]?.id ?? '', {
        ...{ name: 'm2', rackId: 'rack1', nicRole: 'both', by: { actor: 'key_1' } },
        bmc: {
          kind: 'ipmi',
          address: '192.0.2.9',
          port: 623,
          username: 'a',
          password: new Secret('b'),
          cipherSuite: 17,
        },
      }),
    );
    await t.rejects(accept, { code: 'state.conflict' }, 'not by an operator either');
    const { updated_at: _, ...same } = before;
    t.match(await pipeline.machine(), same);

    // The MAC of a machine that is known boots what that machine is told, which is nothing.
    const twin = await stranger(pipeline, 'S-9');
    const decision = await pipeline.daemon.director.decide({ mac: owner?.mac ?? twin.mac, kind: 'pxe-rom' });
    t.match(decision, { verb: 'local-disk' });
    await pipeline.isHealthy(t);
  },
);

eachStore('two that show one serial number both wait', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
  await expected(pipeline, 'S-1', 1);
  const [first, second] = [await stranger(pipeline, 'S-1'), await stranger(pipeline, 'S-1')];
  for (const machine of [first, second]) machine.restart('pxe');
  await pipeline.settle();
  await pipeline.daemon.discovery.look();
  t.match(await discovered(store), [{ reason: /same serial number/ }, { reason: /same serial number/ }]);
  t.same(await machines(store), []);
});

eachStore(
  'no more unknown machines are kept than there is room for, and packets leave nothing behind',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
    const { director } = pipeline.daemon;
    const mac = pipeline.addStranger().mac;
    const decision = await director.decide({ mac, kind: 'ipxe' });
    if (!('scriptToken' in decision)) throw new Error('it was not told to boot');
    await t.rejects(director.script(mac, decision.scriptToken), { code: 'boot.token-refused' }, 'it has no address');
    t.same(await discovered(store), []);

    for (let index = 0; index <= MOST_STRANGERS; index += 1)
      await boot(pipeline, await stranger(pipeline, `S-${String(index)}`));
    t.equal((await discovered(store)).length, MOST_STRANGERS);
    t.same(pipeline.rack.at(-1)?.refusals, ['discovery.full']);
    const alerts = (await pipeline.events()).filter(({ type }) => type === 'alert.raised');
    t.match(alerts, [{ data: { code: 'discovery.full' } }]);
  },
);

eachStore(
  'one that nobody takes in is switched off after a while; one that was rejected is left alone',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
    const machine = await stranger(pipeline, 'S-1');
    await boot(pipeline, machine);
    const { director } = pipeline.daemon;
    const bearer = machine.bearer ?? new Secret('');
    const poll = director.next(bearer, machine.generation, new AbortController().signal);
    const answered = new AbortController();
    void poll.finally(() => answered.abort());
    while (!answered.signal.aborted) {
      await pipeline.settle();
      await clock.advance(5 * SECOND);
    }
    t.equal(await poll, undefined, 'it may wait');
    await clock.advance(LINGER);
    await t.rejects(director.next(bearer, machine.generation, new AbortController().signal), { code: 'boot.stale' });
    await t.rejects(director.files(bearer), { code: 'boot.stale' });
    await t.rejects(director.report(new Secret(`${bearer.reveal().slice(0, -1)}x`), report), {
      code: 'boot.token-refused',
    });
    await store.transaction((tx) => tx.updateTable('discovered_machines').set({ state: 'rejected' }).execute());
    t.match(await director.decide({ mac: machine.mac, kind: 'pxe-rom' }), { verb: 'ignore', why: /rejected/ });
  },
);

const report = { generation: 1, stage: 'inspect', status: 'started', uptime: 1, facts: {} } as const;

/** A machine that shows this serial number, with a lease from our DHCP server. */
async function stranger(pipeline: Pipeline, serial: string): Promise<RackMachine> {
  const machine = pipeline.addStranger();
  machine.inspection = { ...machine.inspection, serial };
  const address = `10.77.9.${String(pipeline.rack.length)}`;
  const lease = {
    subnet_id: 'net1',
    address,
    mac: machine.mac,
    client_id: null,
    hostname: null,
    state: 'bound',
  } as const;
  const row = { ...lease, expires_at: pipeline.clock.now() + 24 * HOUR };
  await pipeline.store.transaction((tx) => tx.insertInto('leases').values(row).execute());
  return machine;
}

/** Somebody presses its button, and it tells of itself. */
async function boot(pipeline: Pipeline, machine: RackMachine): Promise<void> {
  machine.restart('pxe');
  await pipeline.settle();
  await pipeline.daemon.discovery.look();
}

/** From the next check on. */
function hears(machine: RackMachine, neighbour: string): void {
  machine.health = { nics: machine.inspection.nics.map((nic) => ({ ...nic, neighbour })) };
}

async function ruleBySwitch(store: Store, switchPort: string): Promise<void> {
  const row: AcceptRuleRow = {
    ...{ id: 'rul_1', name: 'leaf', rack_id: 'rack1', name_prefix: 'leaf-', nic_role: 'both', created_at: 0 },
    ...{ mac_prefix: null, vendor: null, model: null, firmware_vendor: null, firmware_version: null },
    ...{ subnet_id: null, switch_port: switchPort, bmc_network: '192.0.2.0/24', bmc_kind: 'ipmi', bmc_port: 623 },
    ...{ bmc_username: 'admin', bmc_password: 'sealed', bmc_cipher_suite: 3 },
  };
  await store.transaction((tx) => tx.insertInto('accept_rules').values(row).execute());
}

async function expected(pipeline: Pipeline, serial: string, number: number, switchPort = ''): Promise<void> {
  const header = 'serial,name,region,rack,unit,bmc_address,bmc_user,bmc_password,cipher_suite,switch_port';
  const row = `${serial},m${String(number)},north,a,1,192.0.2.${String(number)},admin,secret,3,${switchPort}`;
  const { events } = pipeline.daemon.process;
  const deps = { events, ids: pipeline.ids, seal: () => 'sealed', unseal: () => new Secret('secret') };
  const entries = readManifest('csv', `${header}\n${row}\n`);
  await pipeline.store.transaction((tx) =>
    loadManifest(tx, deps, entries, { actor: 'key_1', at: pipeline.clock.now() }),
  );
}

function machines({ read }: Store) {
  return read.selectFrom('machines').selectAll().orderBy('name').execute();
}

function discovered({ read }: Store): Promise<DiscoveredMachineRow[]> {
  return read.selectFrom('discovered_machines').selectAll().orderBy('id').execute();
}
