import type { FlavorRow, MachineRow } from '../store/schema.ts';
import type { Store } from '../store/store.ts';

/** A region with two racks, a tenant and an image: what orders and machines refer to. */
export async function describeRegion(
  store: Store,
  flavors: readonly FlavorRow[] = [flavorOf('flv_small')],
): Promise<void> {
  await store.transaction(async (tx) => {
    await tx.insertInto('tenants').values({ id: 'ten_1', name: 'acme', created_at: 0 }).execute();
    await tx.insertInto('regions').values({ id: 'reg_1', name: 'north' }).execute();
    const racks = ['rck_a', 'rck_b'].map((id) => ({ id, region_id: 'reg_1', name: id }));
    await tx.insertInto('racks').values(racks).execute();
    await tx
      .insertInto('flavors')
      .values([...flavors])
      .execute();
    const sizes = { bytes: 1, raw_bytes: 1, map_bytes: 1, root_partition: 1 };
    const image = { id: 'img_1', name: 'debian', version: '12', sha256: 'ab', source_sha256: 'cd', ...sizes };
    await tx
      .insertInto('images')
      .values({ ...image, root_fs: 'ext4', kernel_args: '', created_at: 0 })
      .execute();
  });
}

export function flavorOf(id: string, change: Partial<FlavorRow> = {}): FlavorRow {
  return { id, name: id, cores: 4, memory_mib: 8192, disk_gib: 100, nics: 'same', layout: null, ...change };
}

/** Orders of the flavor and the image, one at each time. */
export async function order(
  store: Store,
  times: readonly number[],
  flavorId = 'flv_small',
  imageId = 'img_1',
): Promise<void> {
  const nothing = { cluster: null, connection: null, failure: null, idempotency_key: null, idempotency_digest: null };
  const nobody = { project_id: null, user_id: null, progress_at: null, ready_at: null, dispatched_at: null };
  const fixed = { tenant_id: 'ten_1', provider: 'bare-metal', hostname: 'h', image_id: imageId, params: '{}' };
  const rows = times.map((at, index) => ({
    ...{ id: `srv_${flavorId}_${imageId}_${String(at)}_${String(index)}`, ...fixed, ...nothing, ...nobody },
    ...{ region_id: 'reg_1', flavor_id: flavorId, state: 'completed' as const, created_by: 'key_1' },
    ...{ created_at: at, updated_at: at, completed_at: at, ended_at: null },
  }));
  await store.transaction(async (tx) => {
    // Neither database takes all of them in one statement.
    for (let from = 0; from < rows.length; from += 500) {
      await tx
        .insertInto('requests')
        .values(rows.slice(from, from + 500))
        .execute();
    }
  });
}

/** A machine that the small flavor fits, unless told otherwise; its id ends in two digits. */
export async function rackUp(store: Store, id: string, change: Partial<MachineRow> = {}): Promise<void> {
  const bmc = { bmc_address: `bmc-${id}`, bmc_port: 623, bmc_username: 'admin', bmc_password: 'sealed' } as const;
  const known = { firmware: 'uefi', vendor: 'ACME', model: 'R1', serial: id, smbios_uuid: null } as const;
  await store.transaction(async (tx) => {
    await tx
      .insertInto('machines')
      .values({
        ...{ id, name: id, rack_id: 'rck_a', state: 'available', disk_state: 'clean', quarantine_reason: null },
        ...{ generation: 0, ...known, cores: 8, memory_mib: 16_384, ...bmc, bmc_kind: 'ipmi', bmc_cipher_suite: 17 },
        ...{ disk_rule: '{"minBytes":0}', created_at: 0, updated_at: 0, ...change },
      })
      .execute();
    const disk = { name: 'nvme0n1', bytes: 480 * 1024 ** 3, type: 'nvme', serial: `S${id}`, model: 'M' } as const;
    await tx
      .insertInto('machine_disks')
      .values({ machine_id: id, ...disk })
      .execute();
    const mac = `52:54:00:00:00:${id.slice(-2)}`;
    await tx
      .insertInto('machine_nics')
      .values({ mac, machine_id: id, name: 'eno1', role: 'both', speed_mbps: 25_000, switch_port: null })
      .execute();
  });
}
