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
  for (;;) {
    const held = await tx.selectFrom('addresses').select('address').where('subnet_id', '=', subnet.id).execute();
    const address = range && firstFree(range, new Set([...held.map((row) => row.address), ...outside(subnet)]));
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
