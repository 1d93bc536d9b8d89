import type { Inspection } from '../../pxe/boot-plan.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Tx } from '../store/store.ts';

/**
 * Writes down what the ramdisk read. The SMBIOS UUID is what later boots must match: once known it doesn't change.
 * NICs that enrolment didn't name come in as customer-facing; a NIC of another machine is refused.
 *
 * Errors: `boot.mismatch`.
 */
export async function recordInspection(tx: Tx, machineId: string, seen: Inspection, at: Millis): Promise<void> {
  const uuid = knownUuid(seen.uuid);
  const { smbios_uuid: known } = await tx
    .selectFrom('machines')
    .select('smbios_uuid')
    .where('id', '=', machineId)
    .executeTakeFirstOrThrow();
  if (known !== null && known !== uuid) {
    throw new RackstartError(
      'boot.mismatch',
      `The machine shows another SMBIOS UUID than when it was inspected first.`,
    );
  }
  const other = await tx
    .selectFrom('machines')
    .select('name')
    .where('smbios_uuid', '=', uuid)
    .where('id', '!=', machineId)
    .executeTakeFirst();
  if (other !== undefined) throw new RackstartError('boot.mismatch', `Machine ${other.name} has this SMBIOS UUID.`);
  await tx
    .updateTable('machines')
    .set({
      cores: seen.cores,
      memory_mib: seen.memoryMib,
      smbios_uuid: uuid,
      vendor: seen.vendor,
      model: seen.model,
      serial: seen.serial,
      firmware: seen.firmware,
      updated_at: at,
    })
    .where('id', '=', machineId)
    .execute();
  await tx.deleteFrom('machine_disks').where('machine_id', '=', machineId).execute();
  for (const disk of seen.disks) {
    await tx
      .insertInto('machine_disks')
      .values({ machine_id: machineId, ...disk })
      // Two disks of one name are one that was read twice.
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }
  for (const { mac, name, speedMbps } of seen.nics) {
    const nic = await tx
      .insertInto('machine_nics')
      .values({ mac, machine_id: machineId, name, role: 'customer', speed_mbps: speedMbps ?? null })
      .onConflict((conflict) => conflict.column('mac').doUpdateSet({ name, speed_mbps: speedMbps ?? null }))
      .returning('machine_id')
      .executeTakeFirstOrThrow();
    if (nic.machine_id !== machineId) {
      throw new RackstartError('boot.mismatch', `The NIC ${mac} belongs to machine ${nic.machine_id}.`);
    }
  }
}

// SMBIOS 3.7 §7.2.1: all ones is "not set", all zeros "not present"; boards that never got one must not pass for each other.
function knownUuid(text: string): string | null {
  const uuid = text.toLowerCase();
  return /^[0-]*$/.test(uuid) || /^[f-]*$/.test(uuid) ? null : uuid;
}
