import { HOUR, MINUTE } from '../kernel/clock.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import type { Store } from '../store/store.ts';
import { apiBench, described } from './api.fixture.ts';

interface Page {
  readonly leases: readonly { address: string; state: string }[];
  readonly next: string | null;
}

eachStore(
  "a subnet's reservations and leases are listed, each with what is known of it",
  async (t, store, { clock }) => {
    const bench = await apiBench(t, store, clock);
    const { rack } = await described(bench, store);
    const subnet = await seedLeases(store, rack, clock.now());
    const { status, body } = await bench.operator.get(`/subnets/${subnet}/leases`);
    t.equal(status, 200);
    const until = (at: number) => new Date(clock.now() + at).toISOString();
    const nothing = { machine: null, hostname: null, clientId: null };
    const { leases, next } = body as Page;
    t.equal(next, null);
    t.strictSame(
      leases.filter(({ address }) => address >= '10.1.0.2'),
      [
        {
          address: '10.1.0.200',
          state: 'bound',
          mac: MAC(1),
          ...nothing,
          hostname: 'laptop',
          clientId: '01aa',
          expiresAt: until(HOUR),
        },
        { address: '10.1.0.201', state: 'expired', mac: MAC(2), ...nothing, expiresAt: until(-HOUR) },
        { address: '10.1.0.202', state: 'declined', mac: MAC(3), ...nothing, expiresAt: until(MINUTE) },
        { address: '10.1.0.203', state: 'expired', mac: MAC(4), ...nothing, expiresAt: until(0) },
      ],
    );
    t.match(
      leases.find(({ state }) => state === 'reserved'),
      { address: '10.1.0.15', mac: MAC(9), machine: { id: 'mch_known', name: 'known' }, expiresAt: null },
    );
  },
);

eachStore('pages of leases join without a gap, and the last one says so', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { rack } = await described(bench, store);
  const subnet = await seedLeases(store, rack, clock.now());
  const whole = (await bench.operator.get(`/subnets/${subnet}/leases`)).body as Page;
  const seen: string[] = [];
  for (let next: string | null = ''; next !== null;) {
    const after: string = next === '' ? '' : `&after=${next}`;
    const page = (await bench.operator.get(`/subnets/${subnet}/leases?limit=2${after}`)).body as Page;
    t.ok(page.leases.length <= 2);
    seen.push(...page.leases.map(({ address }) => address));
    next = page.next;
  }
  t.strictSame(
    seen,
    whole.leases.map(({ address }) => address),
  );
});

eachStore('other DHCP servers are listed with their MACs, the latest first', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { rack } = await described(bench, store);
  const subnet = await seedLeases(store, rack, clock.now());
  t.same((await bench.operator.get(`/subnets/${subnet}/foreign-dhcp-servers`)).body, { servers: [] });
  const first = clock.now() - HOUR;
  await store.transaction((tx) =>
    tx
      .insertInto('foreign_dhcp_servers')
      .values(
        [MAC(7), MAC(8)].map((mac, index) => ({
          subnet_id: subnet,
          mac,
          address: '10.1.0.9',
          first_seen_at: first,
          last_seen_at: first + index,
          last_client: MAC(1),
        })),
      )
      .execute(),
  );
  const at = (time: number) => new Date(time).toISOString();
  t.strictSame((await bench.operator.get(`/subnets/${subnet}/foreign-dhcp-servers`)).body, {
    servers: [
      { address: '10.1.0.9', mac: MAC(8), firstSeenAt: at(first), lastSeenAt: at(first + 1), lastClient: MAC(1) },
      { address: '10.1.0.9', mac: MAC(7), firstSeenAt: at(first), lastSeenAt: at(first), lastClient: MAC(1) },
    ],
  });
});

sqliteStore('only an operator sees who is on a network, and only on one that is there', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { rack } = await described(bench, store);
  const subnet = await seedLeases(store, rack, clock.now());
  const { member } = await bench.tenant('acme');
  for (const list of ['leases', 'foreign-dhcp-servers']) {
    t.equal((await member.get(`/subnets/${subnet}/${list}`)).status, 403, list);
    t.equal((await bench.operator.get(`/subnets/net_none/${list}`)).status, 404, list);
  }
  for (const query of ['limit=0', 'limit=1001', 'before=1']) {
    t.equal((await bench.operator.get(`/subnets/${subnet}/leases?${query}`)).status, 400, query);
  }
});

const MAC = (last: number) => `52:54:00:aa:00:0${String(last)}`;

/** Beside what `described` added: a machine with a reservation, and a lease in each state. Returns the subnet's id. */
async function seedLeases(store: Store, rack: string, now: number): Promise<string> {
  const { id: subnet } = await store.read.selectFrom('subnets').select('id').executeTakeFirstOrThrow();
  const lease = { subnet_id: subnet, client_id: null, hostname: null, state: 'bound' } as const;
  await store.transaction(async (tx) => {
    const known = { mac: MAC(9), machine_id: 'mch_known', name: null, role: 'both', speed_mbps: null } as const;
    await tx.insertInto('machines').values(machine(rack, now)).execute();
    await tx.insertInto('machine_nics').values(known).execute();
    await tx
      .insertInto('addresses')
      .values({
        subnet_id: subnet,
        address: '10.1.0.15',
        holder_kind: 'nic',
        holder_id: MAC(9),
        tenant_id: null,
        held_at: now,
      })
      .execute();
    await tx
      .insertInto('leases')
      .values([
        { ...lease, address: '10.1.0.200', mac: MAC(1), client_id: '01aa', hostname: 'laptop', expires_at: now + HOUR },
        { ...lease, address: '10.1.0.201', mac: MAC(2), expires_at: now - HOUR },
        { ...lease, address: '10.1.0.202', mac: MAC(3), state: 'declined', expires_at: now + MINUTE },
        { ...lease, address: '10.1.0.203', mac: MAC(4), expires_at: now },
      ])
      .execute();
  });
  return subnet;
}

function machine(rack: string, at: number) {
  return {
    id: 'mch_known',
    name: 'known',
    rack_id: rack,
    state: 'enrolled',
    disk_state: 'clean',
    quarantine_reason: null,
    generation: 0,
    firmware: null,
    vendor: null,
    model: null,
    serial: null,
    smbios_uuid: null,
    cores: null,
    memory_mib: null,
    bmc_kind: 'ipmi',
    bmc_address: '10.9.0.9',
    bmc_port: 623,
    bmc_username: 'admin',
    bmc_password: 'sealed',
    bmc_cipher_suite: 17,
    disk_rule: '{}',
    created_at: at,
    updated_at: at,
  } as const;
}
