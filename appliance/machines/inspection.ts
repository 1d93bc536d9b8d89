import type { Inspection } from '../../pxe/boot-plan.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Tx } from '../store/store.ts';
import { claimDiscovered, claimExpected } from './enrolment/own-rows.ts';
import { inspectedVerdict } from './inventory-drift.ts';
import { knownHardware, lossesOf } from './known-hardware.ts';
import { passVerdict } from './verdict.ts';

/**
 * Writes down what the ramdisk read. The SMBIOS UUID is what later boots must match: once known it doesn't change.
 * NICs that enrolment didn't name come in as customer-facing; a NIC of another machine is refused. What is less than was known
 * before becomes an issue, and so does whatever is other than in the inventory that is known to be good.
 *
 * Errors: `boot.mismatch`.
 */
export async function recordInspection(
  tx: Tx,
  deps: { readonly events: EventLog; readonly ids: Ids },
  { machineId, inspection: seen, at }: { machineId: string; inspection: Inspection; at: Millis },
): Promise<void> {
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
  const losses = lossesOf(await knownHardware(tx, machineId), seen);
  await passVerdict(tx, deps, losses, { machineId, by: 'inspection', at });
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
  await claimExpected(tx, seen.serial, machineId);
  const macs = seen.nics.map(({ mac }) => mac);
  await tx.deleteFrom('machine_disks').where('machine_id', '=', machineId).execute();
  for (const { name, bytes, type, serial, model } of seen.disks) {
    await tx
      .insertInto('machine_disks')
      .values({ machine_id: machineId, name, bytes, type, serial, model })
      // Two disks of one name are one that was read twice.
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }
  await tx.updateTable('machine_nics').set({ link: 'gone' }).where('machine_id', '=', machineId).execute();
  for (const { mac, name, speedMbps, up } of seen.nics) {
    const link = up ? 'up' : 'down';
    // One without a link tells no speed: the last that it had is the one to expect.
    const found = { name, link, ...(speedMbps === undefined ? {} : { speed_mbps: speedMbps }) } as const;
    const nic = await tx
      .insertInto('machine_nics')
      .values({ mac, machine_id: machineId, role: 'customer', ...found })
      .onConflict((conflict) => conflict.column('mac').doUpdateSet(found))
      .returning('machine_id')
      .executeTakeFirstOrThrow();
    if (nic.machine_id !== machineId) {
      throw new RackstartError('boot.mismatch', `The NIC ${mac} belongs to machine ${nic.machine_id}.`);
    }
  }
  await claimDiscovered(tx, macs, machineId);
  const drift = await inspectedVerdict(tx, machineId, seen, at);
  await passVerdict(tx, deps, drift, { machineId, by: 'inspection', at });
}

/** SMBIOS 3.7 §7.2.1: all ones is "not set", all zeros "not present"; boards that never got one must not pass for each other. */
export function knownUuid(text: string): string | null {
  const uuid = text.toLowerCase();
  return /^[0-]*$/.test(uuid) || /^[f-]*$/.test(uuid) ? null : uuid;
}
