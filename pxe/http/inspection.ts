import { parseMac } from '../boot-client.ts';
import type { Inspection } from '../boot-plan.ts';
import type { FactList } from './fact-lines.ts';
import { readFactLines } from './fact-lines.ts';
import { readLldpFrame } from './lldp.ts';
import type { MemoryModule } from './memory-device.ts';
import { readMemoryDevice } from './memory-device.ts';

/**
 * Reads what the ramdisk found, `key=value` lines with `disk=`, `nic=`, `lldp=` and `memory_device=` repeated. NICs without an Ethernet
 * address of their own (InfiniBand, bridges) are left out, and so are empty memory slots. Error: `request.invalid`, one complaint a
 * line.
 */
export function parseInspection(text: string): Inspection {
  const disks: Inspection['disks'][number][] = [];
  const links = linkReader();
  const slots: (MemoryModule | undefined)[] = [];
  const facts = readFactLines('An inspection', text, forms, {
    disk: {
      form: 'name|bytes|nvme, ssd or hdd|serial|model|percent of its life or nothing',
      take: (value) => took(disks, parseDisk(value)),
    },
    ...links.lists,
    memory_device: {
      form: 'hexadecimal',
      longest: 2 * LONGEST_STRUCTURE,
      take: (value) => HEX.test(value) && slots.push(readMemoryDevice(Buffer.from(value, 'hex'))) > 0,
    },
  });
  const { vendor, model, serial } = facts;
  return {
    cores: Number(facts.cores),
    memoryMib: Math.floor(Number(facts.memory_kib) / 1024),
    uuid: facts.uuid.toLowerCase(),
    ...{ vendor, model, serial },
    firmware: facts.firmware === 'uefi' ? 'uefi' : 'bios',
    ...maybe('firmwareVendor', facts.firmware_vendor),
    ...maybe('firmwareVersion', facts.firmware_version),
    ...maybe('firmwareDate', isoDate(facts.firmware_date)),
    ...maybe('bmcAddress', facts.bmc_address === UNSET ? '' : facts.bmc_address),
    disks,
    ...(slots.length === 0 ? {} : { dimms: slots.filter((module) => module !== undefined) }),
    nics: links.nics(),
  };
}

/** `nic=` lines, and `lldp=` with what was heard on one of them, as inspections and checks have them. */
export function linkReader(): { readonly lists: Record<'nic' | 'lldp', FactList>; nics(): Inspection['nics'] } {
  const nics: Inspection['nics'][number][] = [];
  const neighbours = new Map<string, string | undefined>();
  const nic: FactList = {
    form: 'name|mac|up or down|Mbit/s or nothing',
    take(value) {
      const read = parseNic(value);
      return read === 'no ethernet' || took(nics, read);
    },
  };
  const lldp: FactList = {
    form: 'name|frame, hexadecimal',
    longest: LONGEST_FRAME_LINE,
    take(value) {
      const [name = '', frame = '', ...rest] = value.split('|');
      if (!DEVICE_NAME.test(name) || !HEX.test(frame) || rest.length > 0) return false;
      neighbours.set(name, readLldpFrame(Buffer.from(frame, 'hex')));
      return true;
    },
  };
  return {
    lists: { nic, lldp },
    nics: () =>
      nics.map((each) => {
        const neighbour = neighbours.get(each.name);
        return neighbour === undefined ? each : { ...each, neighbour };
      }),
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

const LABEL = /^.{0,128}$/u;
const HEX = /^(?:[0-9a-f]{2})+$/;
/** Of an SMBIOS structure with its texts, in bytes: far more than one needs. */
const LONGEST_STRUCTURE = 1024;
/** An Ethernet frame has 1518 bytes at most. */
const LONGEST_FRAME_LINE = 32 + '|'.length + 2 * 1518;

const BYTE = '(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])';

const forms = {
  cores: CORES,
  memory_kib: KIB,
  uuid: /^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?$/i,
  vendor: LABEL,
  model: LABEL,
  serial: LABEL,
  firmware: /^(?:bios|uefi)$/,
  firmware_vendor: LABEL,
  firmware_version: LABEL,
  firmware_date: LABEL,
  bmc_address: new RegExp(`^(?:${BYTE}(?:\\.${BYTE}){3})?$`),
};

/** What a BMC says that has no address yet. */
const UNSET = '0.0.0.0';

function maybe<Key extends string>(key: Key, text: string): Partial<Record<Key, string>> {
  return text === '' ? {} : ({ [key]: text } as Record<Key, string>);
}

/** `04/01/2014`, as SMBIOS has it (DSP0134 3.7, §7.1), as `2014-04-01`; nothing of what is otherwise. */
function isoDate(text: string): string {
  const [, month = '', day = '', year = ''] =
    /^(0[1-9]|1[0-2])\/(0[1-9]|[12][0-9]|3[01])\/([12][0-9]{3})$/.exec(text) ?? [];
  return year === '' ? '' : `${year}-${month}-${day}`;
}

function parseDisk(value: string): Inspection['disks'][number] | undefined {
  const [name = '', bytes = '', type, serial = '', model = '', wear = '', ...rest] = value.split('|');
  if (!DEVICE_NAME.test(name) || !/^[0-9]{1,15}$/.test(bytes) || rest.length > 0) return undefined;
  if (type !== 'nvme' && type !== 'ssd' && type !== 'hdd') return undefined;
  if (!/^[0-9]{0,3}$/.test(wear)) return undefined;
  const told = wear === '' ? {} : { wear: Number(wear) };
  return { name, bytes: Number(bytes), type, serial: serial.trim(), model: model.trim(), ...told };
}

function parseNic(value: string): Inspection['nics'][number] | 'no ethernet' | undefined {
  const [name = '', address = '', link, speed = '', ...rest] = value.split('|');
  if (!DEVICE_NAME.test(name) || (link !== 'up' && link !== 'down') || rest.length > 0) return undefined;
  if (!/^[0-9]{0,7}$/.test(speed)) return undefined;
  const mac = parseMac(address);
  if (mac === undefined) return 'no ethernet';
  return { name, mac, up: link === 'up', ...(speed === '' ? {} : { speedMbps: Number(speed) }) };
}
