import { sql } from 'kysely';

import { RackstartError } from '../kernel/errors.ts';
import type { Millis } from '../kernel/clock.ts';
import type { AddressRow, SubnetRow } from '../store/schema.ts';
import type { Tx } from '../store/store.ts';
import type { AddressRange } from './address-range.ts';
import { addressRange, canonicalAddress, firstFree } from './address-range.ts';

export interface Holder {
  readonly kind: AddressRow['holder_kind'];
  readonly id: string;
  readonly tenantId: string | null;
}

/** For servers, or for the provisioning NICs of known machines. */
export type Pool = 'servers' | 'reservations';

/**
 * Holds the lowest free address of the subnet's pool. The primary key decides between two who choose the same one: the
 * loser chooses again. Errors: `address.pool-empty`.
 */
export async function holdAddress(tx: Tx, subnet: SubnetRow, pool: Pool, holder: Holder, at: Millis): Promise<string> {
  const range = poolRange(subnet, pool);
  let refused: string | undefined;
  // The other pool's, 1 ms per 2,000 machines' reservations, only when one of them turns out to be in the way: ranges change.
  for (let reads: 'its own' | 'all' = 'its own'; ;) {
    const { held } = await tx
      .selectFrom('addresses')
      // One row, however many they are: the daemon has one thread to read them.
      .select(sql<string | null>`string_agg(address, ' ')`.as('held'))
      .where('subnet_id', '=', subnet.id)
      .$if(reads === 'its own', (query) => query.where('holder_kind', pool === 'reservations' ? '=' : '!=', 'nic'))
      .executeTakeFirstOrThrow();
    const address = range && firstFree(range, new Set([...(held?.split(' ') ?? []), ...outside(subnet)]));
    if (address === undefined) {
      throw new RackstartError('address.pool-empty', `Subnet ${subnet.cidr} has no free address for ${pool}.`, {
        details: { subnet: subnet.cidr, pool },
      });
    }
    const inserted = await tx
      .insertInto('addresses')
      .values({
        subnet_id: subnet.id,
        address,
        holder_kind: holder.kind,
        holder_id: holder.id,
        tenant_id: holder.tenantId,
        held_at: at,
      })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    if (inserted.numInsertedOrUpdatedRows === 1n) return address;
    // Somebody else was first, which the next look shows; or it is still free as far as its own pool tells.
    if (address === refused) reads = 'all';
    refused = address;
  }
}

export async function releaseAddresses(tx: Tx, holder: Pick<Holder, 'kind' | 'id'>): Promise<void> {
  await tx.deleteFrom('addresses').where('holder_kind', '=', holder.kind).where('holder_id', '=', holder.id).execute();
}

/** A machine that can't be proven off may still answer at its addresses: they stay held, now by the machine. */
export async function setAddressesAside(tx: Tx, attemptId: string, machineId: string): Promise<void> {
  await tx
    .updateTable('addresses')
    .set({ holder_kind: 'set-aside', holder_id: machineId, tenant_id: null })
    .where('holder_kind', '=', 'attempt')
    .where('holder_id', '=', attemptId)
    .execute();
}

// The gateway is in the subnet and nobody's to give.
function outside(subnet: SubnetRow): string[] {
  return subnet.gateway === null ? [] : [canonicalAddress(subnet.gateway)];
}

function poolRange(subnet: SubnetRow, pool: Pool): AddressRange | undefined {
  if (pool === 'servers') return addressRange(subnet.server_first, subnet.server_last);
  if (subnet.reserved_first === null || subnet.reserved_last === null) return undefined;
  return addressRange(subnet.reserved_first, subnet.reserved_last);
}
