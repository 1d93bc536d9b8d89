import type { LeaseRow } from '../../appliance/store/schema.ts';
import type { Store } from '../../appliance/store/store.ts';

export const SUBNET = 'sub_rack';

export interface SubnetSeed {
  readonly leaseFirst?: string | null;
  readonly leaseLast?: string | null;
  readonly gateway?: string | null;
}

/** A region with the provisioning subnet 10.77.0.0/24, leasing .100 to .102 to strangers unless told otherwise. */
export async function seedSubnet(store: Store, seed: SubnetSeed = {}): Promise<void> {
  const { leaseFirst = '10.77.0.100', leaseLast = '10.77.0.102', gateway = null } = seed;
  await store.transaction(async (tx) => {
    await tx.insertInto('regions').values({ id: 'reg_1', name: 'lab' }).execute();
    await tx
      .insertInto('subnets')
      .values({
        id: SUBNET,
        region_id: 'reg_1',
        role: 'both',
        family: 4,
        cidr: '10.77.0.0/24',
        gateway,
        dns: '["10.77.0.2","fd77::2"]',
        server_first: '10.77.0.50',
        server_last: '10.77.0.99',
        reserved_first: '10.77.0.10',
        reserved_last: '10.77.0.49',
        lease_first: leaseFirst,
        lease_last: leaseLast,
      })
      .execute();
  });
}

export const FAR_SUBNET = 'sub_far';

/** A second provisioning subnet, 10.78.0.0/24, as it would be behind a relay. */
export async function seedFarSubnet(store: Store): Promise<void> {
  await store.transaction((tx) =>
    tx
      .insertInto('subnets')
      .values({
        id: FAR_SUBNET,
        region_id: 'reg_1',
        role: 'provisioning',
        family: 4,
        cidr: '10.78.0.0/24',
        gateway: '10.78.0.1',
        dns: '[]',
        server_first: '10.78.0.50',
        server_last: '10.78.0.99',
        reserved_first: '10.78.0.10',
        reserved_last: '10.78.0.49',
        lease_first: '10.78.0.100',
        lease_last: '10.78.0.102',
      })
      .execute(),
  );
}

/** Makes a machine known: its NIC has this address for good. */
export async function reserve(store: Store, mac: string, address: string, subnet = SUBNET): Promise<void> {
  await store.transaction((tx) =>
    tx
      .insertInto('addresses')
      .values({ subnet_id: subnet, address, holder_kind: 'nic', holder_id: mac, tenant_id: null, held_at: 0 })
      .execute(),
  );
}

export function leaseRows(store: Store): Promise<LeaseRow[]> {
  return store.read.selectFrom('leases').selectAll().orderBy('address').execute();
}
