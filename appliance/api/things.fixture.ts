import type { Inspection } from '../../pxe/boot-plan.ts';
import type { EventLog } from '../events/event-log.ts';
import { createIds } from '../kernel/ids.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { placeOrder } from '../machines/boot-order.ts';
import { raiseIssue } from '../machines/machine-issues.ts';
import type { Store } from '../store/store.ts';
import type { Caller } from './api.fixture.ts';

/** A boot of this machine, which waits for its power. Returns the session's id. */
export async function bootOf(store: Store, clock: ManualClock, machineId: string): Promise<string> {
  const at = { at: clock.now(), windowUntil: clock.now() + 60_000 };
  const { sessionId } = await store.transaction((tx) =>
    placeOrder(tx, createIds(clock), { machineId, verb: 'wait' }, at),
  );
  return sessionId;
}

/** An open issue of this machine, `nic-slow`. */
export async function slowNicOf(store: Store, events: EventLog, clock: ManualClock, machineId: string): Promise<void> {
  const found = { machineId, type: 'nic-slow', message: '1 Gbit/s, not 25', evidence: {}, at: clock.now() } as const;
  await store.transaction((tx) => raiseIssue(tx, events, createIds(clock), found));
}

/** An image of this tenant, of which nothing is stored. */
export async function imageOf(store: Store, tenantId: string, name: string): Promise<string> {
  const row = {
    id: `img_${name}`,
    tenant_id: tenantId,
    name,
    version: '1',
    sha256: 'cd'.repeat(32),
    source_sha256: 'ab'.repeat(32),
    bytes: 1,
  } as const;
  const disk = { raw_bytes: 512, map_bytes: 1, root_partition: 1, root_fs: 'ext4', kernel_args: '' } as const;
  await store.transaction((tx) =>
    tx
      .insertInto('images')
      .values({ ...row, ...disk, created_at: 0 })
      .execute(),
  );
  return row.id;
}

/** The server's attempt, as if a person had been asked to make it. */
export async function awaitedAccess(store: Store, requestId: string): Promise<string> {
  return store.transaction(async (tx) => {
    const attempts = tx.selectFrom('attempts').select(['id', 'tenant_id']).where('request_id', '=', requestId);
    const { id, tenant_id } = await attempts.executeTakeFirstOrThrow();
    const nothing = { connection: null, entered_by: null, entered_at: null };
    await tx
      .insertInto('access_entries')
      .values({ attempt_id: id, tenant_id, asked_at: 0, ...nothing })
      .execute();
    return id;
  });
}

/** The machine's inspection, as if its undo had failed. */
export async function stuckSaga(store: Store, machineId: string): Promise<{ id: string }> {
  return store.transaction(async (tx) => {
    const saga = await tx
      .updateTable('sagas')
      .set({ state: 'stuck', wake_at: null })
      .where('subject', '=', machineId)
      .returning('id')
      .executeTakeFirstOrThrow();
    const none = { tenant_id: null, output: null, recheck_at: null, forward: null, ended_at: null };
    const error = JSON.stringify({ code: 'bmc.unreachable', message: 'The BMC is dead.' });
    const step = { name: 'power-off', ordinal: 0, state: 'stuck', tries: 4, error, started_at: 0 } as const;
    await tx
      .insertInto('saga_steps')
      .values({ saga_id: saga.id, ...step, ...none })
      .execute();
    return saga;
  });
}

/** A manifest of one machine in the rack `r1` of `described`, as CSV. */
export function manifestOf(serial: string, name: string, bmc: string): string {
  const header = 'serial,name,region,rack,unit,bmc_address,bmc_user,bmc_password';
  return `${header}\n${serial},${name},west,r1,1,${bmc},admin,hunter2\n`;
}

/** Rows of the manifest, by numbers from 1; their ids. */
export async function expectedMachines(operator: Caller, count: number): Promise<string[]> {
  for (let number = 1; number <= count; number++) {
    const text = manifestOf(`acme-${String(number)}`, `expected-${String(number)}`, `10.0.8.${String(100 + number)}`);
    await operator.post('/manifest', { format: 'csv', text });
  }
  const { rows } = (await operator.get('/manifest')).body as { rows: { id: string }[] };
  return rows.map(({ id }) => id);
}

/** An unknown machine that waits, the `number`th; its id. Those of odd numbers tell where their BMCs are. */
export async function discoveredMachine(store: Store, number: number): Promise<string> {
  const id = `dsc_${String(number).padStart(8, '0')}`;
  const mac = `52:54:00:00:07:${number.toString(16).padStart(2, '0')}` as Inspection['nics'][number]['mac'];
  const facts: Inspection = {
    ...{
      cores: 8,
      memoryMib: 1024,
      uuid: '',
      vendor: 'Double',
      model: 'D1',
      serial: `D${String(number)}`,
      firmware: 'uefi',
    },
    disks: [{ name: 'sda', bytes: 512, type: 'ssd', serial: 'S', model: 'M', wear: 3 }],
    nics: [{ name: 'eth0', mac, up: true, speedMbps: 1000, neighbour: 'sw-7/eth3' }],
    ...(number % 2 === 1 ? { bmcAddress: `10.0.7.${String(number)}` } : {}),
  };
  const { id: subnet } = await store.read.selectFrom('subnets').select('id').orderBy('id').executeTakeFirstOrThrow();
  const row = {
    ...{ id, mac, subnet_id: subnet, address: `10.1.0.${String(200 + number)}`, reason: null },
    state: 'waiting',
    ...{ nonce_hash: 'none', generation: 1, uuid: '', serial: facts.serial, facts: JSON.stringify(facts) },
    ...{ machine_id: null, first_seen_at: 0, claimed_at: 0, seen_at: 0, told_at: 0 },
  } as const;
  await store.transaction((tx) =>
    tx
      .insertInto('discovered_machines')
      .values(row)
      .onConflict((conflict) => conflict.doNothing())
      .execute(),
  );
  return id;
}

/** A rule by which unknown machines are enrolled that never boot; its id. */
export async function acceptRule(operator: Caller, name: string): Promise<string> {
  const { racks } = (await operator.get('/racks')).body as { racks: { id: string }[] };
  const bmc = { username: 'admin', password: 'hunter2', network: '10.9.0.0/24' };
  const rule = await operator.post('/accept-rules', {
    name,
    rack: racks[0]?.id,
    match: { macPrefix: '0a:0b:0c' },
    bmc,
  });
  return (rule.body as { id: string }).id;
}
