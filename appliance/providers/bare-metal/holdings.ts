import type { EventLog } from '../../events/event-log.ts';
import type { Millis } from '../../kernel/clock.ts';
import { markDiskDirty } from '../../machines/boot-order.ts';
import { quarantineMachine } from '../../machines/quarantine.ts';
import { setAddressesAside } from '../../network/ipam.ts';
import type { Reader, Tx } from '../../store/store.ts';
import type { Held, ProviderContext } from '../provider.ts';

/** What our own tables hold for attempts: machines, their addresses, the credentials of their agents, orders to install. */
export async function bareMetalHoldings(read: Reader): Promise<readonly Held[]> {
  const machines = await read.selectFrom('allocations').select(['machine_id as id', 'attempt_id']).execute();
  const addresses = await read
    .selectFrom('addresses')
    .select(['address as id', 'holder_id as attempt_id'])
    .where('holder_kind', '=', 'attempt')
    .execute();
  const agents = await read
    .selectFrom('agents')
    .select(['attempt_id as id', 'attempt_id'])
    .where('revoked_at', 'is', null)
    .execute();
  const orders = await read
    .selectFrom('boot_orders')
    .select(['id', 'attempt_id'])
    .where('attempt_id', 'is not', null)
    .where('state', 'in', ['pending', 'claimed'])
    .execute();
  const of = (kind: string, rows: readonly { id: string; attempt_id: string | null }[]): Held[] =>
    rows.map(({ id, attempt_id }) => ({ cluster: null, kind, id, madeFor: { attemptId: attempt_id ?? '' } }));
  return [...of('machine', machines), ...of('address', addresses), ...of('agent', agents), ...of('boot-order', orders)];
}

/**
 * What nobody owns is given up, and nothing is taken for granted of a machine that nobody watched: it is quarantined, its
 * disk dirty, its addresses set aside. An operator lifts that (`machine readmit`), which proves it off and wipes it.
 */
export async function removeBareMetal(
  events: EventLog,
  { kind, id, madeFor }: Held,
  ctx: ProviderContext,
): Promise<void> {
  if (!('attemptId' in madeFor)) return;
  const { attemptId } = madeFor;
  const at = ctx.clock.now();
  await ctx.transaction(async (tx) => {
    switch (kind) {
      case 'machine':
        return giveUpMachine(tx, events, { attemptId, at });
      case 'address':
        // What may still answer at it goes first, and takes it along.
        await giveUpMachine(tx, events, { attemptId, at });
        await tx
          .deleteFrom('addresses')
          .where('holder_kind', '=', 'attempt')
          .where('holder_id', '=', attemptId)
          .where('address', '=', id)
          .execute();
        return;
      case 'agent':
        await tx
          .updateTable('agents')
          .set({ revoked_at: at })
          .where('attempt_id', '=', attemptId)
          .where('revoked_at', 'is', null)
          .execute();
        return;
      case 'boot-order':
        await tx
          .updateTable('boot_orders')
          .set({ state: 'revoked', ended_at: at })
          .where('id', '=', id)
          .where('state', 'in', ['pending', 'claimed'])
          .execute();
    }
  });
}

async function giveUpMachine(
  tx: Tx,
  events: EventLog,
  { attemptId, at }: { attemptId: string; at: Millis },
): Promise<void> {
  const allocation = await tx
    .deleteFrom('allocations')
    .where('attempt_id', '=', attemptId)
    .returning('machine_id')
    .executeTakeFirst();
  if (allocation === undefined) return;
  const machineId = allocation.machine_id;
  const reason = 'It was held for a request that has ended.';
  await quarantineMachine(tx, events, { machineId, reason, actor: 'sweep', at });
  await markDiskDirty(tx, machineId, at);
  await setAddressesAside(tx, attemptId, machineId);
}
