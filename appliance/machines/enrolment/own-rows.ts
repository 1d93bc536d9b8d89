import type { Tx } from '../../store/store.ts';

/** The row of a machine that came to be known otherwise is its own from then on. */
export async function claimExpected(tx: Tx, serial: string, machineId: string): Promise<void> {
  await tx
    .updateTable('expected_machines')
    .set({ machine_id: machineId })
    .where('serial', '=', serial)
    .where('machine_id', 'is', null)
    .where((eb) =>
      eb.not(
        eb.exists(
          eb.selectFrom('expected_machines as other').select('other.id').where('other.machine_id', '=', machineId),
        ),
      ),
    )
    .execute();
}

/** Whoever booted from one of these NICs is this machine, and is unknown no longer. */
export async function claimDiscovered(tx: Tx, macs: readonly string[], machineId: string): Promise<void> {
  if (macs.length === 0) return;
  await tx
    .updateTable('discovered_machines')
    .set({ state: 'enrolled', machine_id: machineId, reason: null })
    .where('mac', 'in', macs)
    .where('state', '!=', 'enrolled')
    .execute();
}
