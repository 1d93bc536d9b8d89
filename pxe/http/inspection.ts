import { parseMac } from '../boot-client.ts';
import type { Inspection } from '../boot-plan.ts';
import type { FactList } from './fact-lines.ts';
import { readFactLines } from './fact-lines.ts';

/**
 * Reads what the ramdisk found, `key=value` lines with `disk=` and `nic=` repeated. NICs without an Ethernet address of
 * their own (InfiniBand, bridges) are left out. Error: `request.invalid`, one complaint a line.
 */
export function parseInspection(text: string): Inspection {
  const disks: Inspection['disks'][number][] = [];
  const nics: Inspection['nics'][number][] = [];
  const { cores, memory_kib, uuid, firmware, ...labels } = readFactLines('An inspection', text, forms, {
    disk: { form: 'name|bytes|nvme, ssd or hdd|serial|model', take: (value) => took(disks, parseDisk(value)) },
    nic: nicList(nics),
  });
  return {
    cores: Number(cores),
    memoryMib: Math.floor(Number(memory_kib) / 1024),
    uuid: uuid.toLowerCase(),
    ...labels,
    firmware: firmware === 'uefi' ? 'uefi' : 'bios',
    disks,
    nics,
  };
}

/** `nic=` lines, as inspections and checks have them. */
export function nicList(nics: Inspection['nics'][number][]): FactList {
  return {
    form: 'name|mac|up or down|Mbit/s or nothing',
    take(value) {
      const nic = parseNic(value);
      return nic === 'no ethernet' || took(nics, nic);
    },
  };
}

/** Whether there was something to take. */
export function took<Item>(items: Item[], item: Item | undefined): boolean {
  if (item === undefined) return false;
  items.push(item);
  return true;
}

/** As the kernel names devices. */
export const DEVICE_NAME = /^[A-Za-z0-9._!-]{1,32}$/;

export const CORES = /^[1-9][0-9]{0,4}$/;
export const KIB = /^[1-9][0-9]{0,12}$/;

const forms = {
  cores: CORES,
  memory_kib: KIB,
  uuid: /^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?$/i,
  vendor: /^.{0,128}$/u,
  model: /^.{0,128}$/u,
  serial: /^.{0,128}$/u,
  firmware: /^(?:bios|uefi)$/,
};

function parseDisk(value: string): Inspection['disks'][number] | undefined {
  const [name = '', bytes = '', type, serial = '', model = '', ...rest] = value.split('|');
  if (!DEVICE_NAME.test(name) || !/^[0-9]{1,15}$/.test(bytes) || rest.length > 0) return undefined;
  if (type !== 'nvme' && type !== 'ssd' && type !== 'hdd') return undefined;
  return { name, bytes: Number(bytes), type, serial: serial.trim(), model: model.trim() };
}

function parseNic(value: string): Inspection['nics'][number] | 'no ethernet' | undefined {
  const [name = '', address = '', link, speed = '', ...rest] = value.split('|');
  if (!DEVICE_NAME.test(name) || (link !== 'up' && link !== 'down') || rest.length > 0) return undefined;
  if (!/^[0-9]{0,7}$/.test(speed)) return undefined;
  const mac = parseMac(address);
  if (mac === undefined) return 'no ethernet';
  return { name, mac, up: link === 'up', ...(speed === '' ? {} : { speedMbps: Number(speed) }) };
}
