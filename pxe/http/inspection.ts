import type { FieldError } from '../../appliance/kernel/errors.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';
import { parseMac } from '../boot-client.ts';
import type { Inspection } from '../boot-plan.ts';

/**
 * Reads what the ramdisk found, `key=value` lines with `disk=` and `nic=` repeated. NICs without an Ethernet address of
 * their own (InfiniBand, bridges) are left out. Error: `request.invalid`, one complaint a line.
 */
export function parseInspection(text: string): Inspection {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  if (lines.length > MAX_LINES) throw new RackstartError('request.invalid', 'An inspection has at most 512 lines.');
  const complaints: FieldError[] = [];
  const fields = new Map<string, string>();
  const disks: Inspection['disks'][number][] = [];
  const nics: Inspection['nics'][number][] = [];
  for (const [index, line] of lines.entries()) {
    const [, key = '', value = ''] = /^([a-z_]{1,32})=([^\p{Cc}]{0,512})\r?$/u.exec(line) ?? [];
    const complain = (message: string) => complaints.push({ field: `/lines/${index}`, message });
    if (key === 'disk') {
      const disk = parseDisk(value);
      if (disk === undefined) complain('must be disk=name|bytes|nvme, ssd or hdd|serial|model');
      else disks.push(disk);
    } else if (key === 'nic') {
      const nic = parseNic(value);
      if (nic === undefined) complain('must be nic=name|mac|up or down|Mbit/s or nothing');
      else if (nic !== 'no ethernet') nics.push(nic);
    } else if (!(key in forms) || fields.has(key)) {
      complain('must be a known key, given once');
    } else {
      fields.set(key, value.trim());
    }
  }
  const read = (key: keyof typeof forms): string => {
    const value = fields.get(key) ?? '';
    if (!forms[key].test(value)) complaints.push({ field: `/${key}`, message: `must match ${forms[key].source}` });
    return value;
  };
  const inspection: Inspection = {
    cores: Number(read('cores')),
    memoryMib: Math.floor(Number(read('memory_kib')) / 1024),
    uuid: read('uuid').toLowerCase(),
    vendor: read('vendor'),
    model: read('model'),
    serial: read('serial'),
    firmware: read('firmware') === 'uefi' ? 'uefi' : 'bios',
    disks,
    nics,
  };
  if (complaints.length === 0) return inspection;
  throw new RackstartError('request.invalid', 'The inspection is not well-formed.', {
    fields: complaints.slice(0, 32),
  });
}

const MAX_LINES = 512;

const forms = {
  cores: /^[1-9][0-9]{0,4}$/,
  memory_kib: /^[1-9][0-9]{0,12}$/,
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

const DEVICE_NAME = /^[A-Za-z0-9._!-]{1,32}$/;
