import type { Millis } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Tx } from '../store/store.ts';
import { addTenant } from '../tenants/tenants.ts';

/** What an operator describes before the first machine: tenants `t1` and `t2`, region `north` with a rack, a flavor, an image, a subnet. */
export async function describeSite(
  tx: Tx,
  { ids, at, addresses }: { readonly ids: Ids; readonly at: Millis; readonly addresses: number },
): Promise<void> {
  for (const id of ['t1', 't2']) await addTenant(tx, { id, name: id }, { ids, at });
  await tx.insertInto('regions').values({ id: 'reg1', name: 'north' }).execute();
  await tx.insertInto('racks').values({ id: 'rack1', region_id: 'reg1', name: 'a' }).execute();
  const shape = { cores: 4, memory_mib: 8_192, disk_gib: 100, nics: 'same' } as const;
  await tx
    .insertInto('flavors')
    .values({ id: 'flv1', name: 'small', ...shape })
    .execute();
  const image = { sha256: 'ab'.repeat(32), bytes: 1000, raw_bytes: 5000, map_bytes: 300, source_sha256: 'cd' };
  const root = { root_partition: 3, root_fs: 'ext4', kernel_args: 'quiet' } as const;
  await tx
    .insertInto('images')
    .values({ id: 'img1', name: 'debian', version: '12', ...image, ...root, created_at: at })
    .execute();
  const servers = { server_first: '10.77.4.1', server_last: `10.77.4.${String(addresses)}` };
  const others = { reserved_first: '10.77.1.1', reserved_last: '10.77.1.250', lease_first: null, lease_last: null };
  await tx
    .insertInto('subnets')
    .values({
      id: 'net1',
      region_id: 'reg1',
      role: 'both',
      family: 4,
      cidr: '10.77.0.0/16',
      gateway: '10.77.0.1',
      dns: '["10.77.0.1"]',
      ...servers,
      ...others,
    })
    .execute();
}
