import { hash } from 'node:crypto';

import type { BootFaults } from './faults.ts';
import type { MachineSpec } from './machine-spec.ts';

export const DISK = 'sda';

/** What the ramdisk of a simulated machine tells of its hardware, by `images/ramdisk/inspect.sh`. */
export function inspectionText(machine: MachineSpec, faults: BootFaults): string {
  const { name, uuid, hardware } = machine;
  const { cores, memoryKib, disks, nics } = partsOf(machine, faults);
  return [
    `cores=${cores}`,
    `memory_kib=${memoryKib}`,
    `uuid=${uuid}`,
    `vendor=${hardware.vendor}`,
    `model=${hardware.name}`,
    `serial=${name}`,
    'firmware_vendor=Simulated',
    'firmware_version=1.0',
    'firmware_date=11/22/2026',
    `firmware=${hardware.firmware}`,
    ...disks.map((disk) => `disk=${disk.name}|${disk.bytes}|ssd|${disk.serial}|Simulated|1`),
    ...nics,
    '',
  ].join('\n');
}

/** What it tells of its health, by `images/ramdisk/check.sh`. */
export function healthText(machine: MachineSpec, faults: BootFaults): string {
  const { health } = faults;
  const { cores, memoryKib, disks, nics } = partsOf(machine, faults);
  const read = health.has('disk-unreadable') ? '1048576' : 'ok';
  const smart = health.has('disk-smart') ? 'failing' : 'ok';
  return [
    `cores=${cores}`,
    `memory_kib=${memoryKib}`,
    'memory_tested_kib=1048576',
    `memory_wrong_bytes=${health.has('memory') ? 3 : 0}`,
    'memory_corrected=0',
    'memory_uncorrected=0',
    `clock_offset=${health.has('clock') ? -86_400 : 0}`,
    ...disks.map((disk) => `disk=${disk.name}|${disk.bytes}|${disk.serial}|${read}|${smart}`),
    ...nics,
    '',
  ].join('\n');
}

export const STILL_DATA = 'it still holds data after wiping';

/** What it tells of its disk after a wipe, by `images/ramdisk/wipe.sh`. */
export function certificateText({ name, hardware }: MachineSpec, { wipe }: BootFaults): string {
  return [
    `disk=${DISK}`,
    `bytes=${hardware.diskGib * 1024 ** 3}`,
    `serial=${name}-0`,
    'model=Simulated',
    'method=discard',
    'seconds=3',
    'samples=66',
    `sampled_bytes=${SAMPLED}`,
    `digest=${hash('sha256', Buffer.alloc(SAMPLED, wipe ? 1 : 0))}`,
    ...(wipe ? ['result=failed', `reason=${STILL_DATA}`] : ['result=passed']),
    '',
  ].join('\n');
}

const SAMPLED = 6 * 1024 ** 2;

/** What of the machine is there in this boot; its disk is the only one, and its NIC the one that it boots from. */
function partsOf({ name, mac, hardware }: MachineSpec, { health }: BootFaults) {
  const speed = health.has('nic-slow') ? 100 : 10_000;
  return {
    cores: health.has('cpu-missing') ? hardware.cores / 2 : hardware.cores,
    memoryKib: (health.has('memory-missing') ? hardware.memoryMib / 2 : hardware.memoryMib) * 1024,
    disks: health.has('disk-missing') ? [] : [{ name: DISK, bytes: hardware.diskGib * 1024 ** 3, serial: `${name}-0` }],
    nics: [`nic=eth0|${mac}|up|${speed}`],
  };
}
