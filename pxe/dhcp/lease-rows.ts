import type { Millis } from '../../appliance/kernel/clock.ts';
import type { LeaseRow, SubnetRow } from '../../appliance/store/schema.ts';
import type { Reader, Tx } from '../../appliance/store/store.ts';
import type { Mac } from '../boot-client.ts';
import type { LeaseClient } from './lease-book.ts';

/** The queries of the lease book, one operation each. `now` decides what is live: a row outlives its lease. */

/** The subnet, and the address reserved in it for a known machine's NIC: one query, all that a known machine costs. */
export async function findSubnet(
  read: Reader,
  subnetId: string,
  mac: Mac,
): Promise<{ subnet: SubnetRow; reserved: string | undefined } | undefined> {
  const row = await read
    .selectFrom('subnets')
    .leftJoin('addresses', (join) =>
      join
        .onRef('addresses.subnet_id', '=', 'subnets.id')
        .on('addresses.holder_kind', '=', 'nic')
        .on('addresses.holder_id', '=', mac),
    )
    .selectAll('subnets')
    .select('addresses.address as reserved')
    .where('subnets.id', '=', subnetId)
    .executeTakeFirst();
  return row && { subnet: row, reserved: row.reserved ?? undefined };
}

/** The address that the client holds beyond `until`, unless it has been given to somebody for good since. */
export async function heldBeyond(read: Reader, subnetId: string, mac: Mac, until: Millis): Promise<string | undefined> {
  const row = await read
    .selectFrom('leases')
    .leftJoin('addresses', (join) =>
      join.onRef('addresses.subnet_id', '=', 'leases.subnet_id').onRef('addresses.address', '=', 'leases.address'),
    )
    .select('leases.address')
    .where('leases.subnet_id', '=', subnetId)
    .where('leases.mac', '=', mac)
    .where('leases.state', '!=', 'declined')
    .where('leases.expires_at', '>', until)
    .where('addresses.address', 'is', null)
    .executeTakeFirst();
  return row?.address;
}

/** The client's live leases in these states. */
export async function liveAddresses(
  read: Reader,
  subnetId: string,
  mac: Mac,
  states: readonly LeaseRow['state'][],
  now: Millis,
): Promise<string[]> {
  const rows = await read
    .selectFrom('leases')
    .select('address')
    .where('subnet_id', '=', subnetId)
    .where('mac', '=', mac)
    .where('state', 'in', states)
    .where('expires_at', '>', now)
    .execute();
  return rows.map(({ address }) => address);
}

export function allLeases(tx: Tx, subnetId: string): Promise<LeaseRow[]> {
  return tx.selectFrom('leases').selectAll().where('subnet_id', '=', subnetId).execute();
}

/** The addresses of the subnet that servers and known machines hold: nobody may lease them. */
export async function heldForGood(tx: Tx, subnetId: string): Promise<Set<string>> {
  const rows = await tx.selectFrom('addresses').select('address').where('subnet_id', '=', subnetId).execute();
  return new Set(rows.map(({ address }) => address));
}

/** Offers the address, and forgets the client's former ones. False when somebody else took it in the meantime. */
export async function writeOffer(
  tx: Tx,
  subnetId: string,
  client: LeaseClient,
  address: string,
  { now, until }: { now: Millis; until: Millis },
): Promise<boolean> {
  const offered = { ...clientColumns(client), state: 'offered', expires_at: until } as const;
  const written = await tx
    .insertInto('leases')
    .values({ subnet_id: subnetId, address, ...offered })
    .onConflict((conflict) =>
      conflict
        .columns(['subnet_id', 'address'])
        .doUpdateSet(offered)
        .where((eb) =>
          eb.or([
            eb.and([eb('leases.mac', '=', client.mac), eb('leases.state', '!=', 'declined')]),
            eb('leases.expires_at', '<=', now),
          ]),
        ),
    )
    .executeTakeFirst();
  if (written.numInsertedOrUpdatedRows !== 1n) return false;
  await tx
    .deleteFrom('leases')
    .where('subnet_id', '=', subnetId)
    .where('mac', '=', client.mac)
    .where('address', '!=', address)
    .where('state', '!=', 'declined')
    .execute();
  return true;
}

/** Binds what the client was offered or had. False when it is not the client's any longer. */
export async function writeBound(
  tx: Tx,
  subnetId: string,
  client: LeaseClient,
  address: string,
  until: Millis,
): Promise<boolean> {
  const written = await tx
    .updateTable('leases')
    .set({ ...clientColumns(client), state: 'bound', expires_at: until })
    .where('subnet_id', '=', subnetId)
    .where('address', '=', address)
    .where('mac', '=', client.mac)
    .where('state', '!=', 'declined')
    .executeTakeFirst();
  return written.numUpdatedRows === 1n;
}

/** Changes leases of the client that are still in one of these states. */
export async function writeChange(
  tx: Tx,
  subnetId: string,
  mac: Mac,
  { addresses, states, change }: { addresses: string[]; states: readonly LeaseRow['state'][]; change: LeaseChange },
): Promise<void> {
  await tx
    .updateTable('leases')
    .set(change)
    .where('subnet_id', '=', subnetId)
    .where('address', 'in', addresses)
    .where('mac', '=', mac)
    .where('state', 'in', states)
    .execute();
}

export type LeaseChange = Partial<Pick<LeaseRow, 'state' | 'expires_at'>>;

function clientColumns({ mac, clientId, hostname }: LeaseClient) {
  return { mac, client_id: clientId ?? null, hostname: hostname ?? null };
}
