import type { Store } from '../appliance/store/store.ts';
import type { Mac } from './boot-client.ts';
import { parseMac } from './boot-client.ts';

export const FIRST = parseMac('52:54:00:77:00:01') as Mac;
export const SECOND = parseMac('52:54:00:77:00:02') as Mac;

/**
 * Machines `m1` and `m2` with a reserved address each. The first had a boot session (`s1`) from 100 to 200 and has another one
 * (`s2`) since; the second has none.
 */
export async function twoMachines(store: Store): Promise<void> {
  await store.transaction(async (tx) => {
    await tx.insertInto('regions').values({ id: 'r', name: 'r' }).execute();
    await tx.insertInto('racks').values({ id: 'k', region_id: 'r', name: 'k' }).execute();
    for (const [id, nic] of [
      ['m1', FIRST],
      ['m2', SECOND],
    ] as const) {
      await tx
        .insertInto('machines')
        .values({
          id,
          name: id,
          rack_id: 'k',
          state: 'deploying',
          disk_state: 'clean',
          quarantine_reason: null,
          generation: 2,
          firmware: null,
          vendor: null,
          model: null,
          serial: null,
          smbios_uuid: null,
          cores: null,
          memory_mib: null,
          bmc_kind: 'ipmi',
          bmc_address: id,
          bmc_port: 623,
          bmc_username: '',
          bmc_password: '',
          bmc_cipher_suite: 3,
          disk_rule: '{}',
          created_at: 0,
          updated_at: 0,
        })
        .execute();
      await tx
        .insertInto('machine_nics')
        .values({ mac: nic, machine_id: id, name: null, role: 'both', speed_mbps: null })
        .execute();
    }
    await tx
      .insertInto('subnets')
      .values({
        id: 'net',
        region_id: 'r',
        role: 'both',
        family: 4,
        cidr: '10.77.0.0/24',
        gateway: null,
        dns: '[]',
        server_first: '10.77.0.90',
        server_last: '10.77.0.99',
        reserved_first: '10.77.0.10',
        reserved_last: '10.77.0.50',
        lease_first: null,
        lease_last: null,
      })
      .execute();
    for (const [address, holder_kind, holder_id] of [
      ['10.77.0.11', 'nic', FIRST],
      ['10.77.0.12', 'nic', SECOND],
      ['10.77.0.99', 'attempt', FIRST],
    ] as const) {
      await tx
        .insertInto('addresses')
        .values({ subnet_id: 'net', address, holder_kind, holder_id, tenant_id: null, held_at: 0 })
        .execute();
    }
    for (const [id, generation, opened, ended] of [
      ['s1', 1, 100, 200],
      ['s2', 2, 200, null],
    ] as const) {
      await tx
        .insertInto('boot_orders')
        .values({
          id: `o${generation}`,
          machine_id: 'm1',
          generation,
          verb: 'inspect',
          plan_digest: null,
          attempt_id: null,
          tenant_id: null,
          state: 'consumed',
          created_at: 0,
          claimed_at: null,
          ended_at: null,
        })
        .execute();
      await tx
        .insertInto('boot_sessions')
        .values({
          id,
          machine_id: 'm1',
          order_id: `o${generation}`,
          generation,
          state: 'opened',
          opened_at: opened,
          seen_at: opened,
          moved_bytes: 0,
          window_until: 9999,
          nonce_hash: null,
          claimed_at: null,
          ended_at: ended,
          end_reason: null,
          stages: '{}',
        })
        .execute();
    }
  });
}
