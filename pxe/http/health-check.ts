import type { HealthCheck } from '../boot-plan.ts';
import { readFactLines } from './fact-lines.ts';
import { CORES, DEVICE_NAME, KIB, linkReader, took } from './inspection.ts';

/**
 * Reads what a check of a machine's health found, `key=value` lines with `disk=`, `nic=` and `lldp=` repeated. Error:
 * `request.invalid`, one complaint a line.
 */
export function parseHealthCheck(text: string): HealthCheck {
  const disks: HealthCheck['disks'][number][] = [];
  const links = linkReader();
  const facts = readFactLines('A check', text, forms, {
    disk: {
      form: 'name|bytes|serial|ok or the byte that cannot be read|ok, failing or unknown',
      take: (value) => took(disks, parseDisk(value)),
    },
    ...links.lists,
  });
  return {
    cores: Number(facts.cores),
    memoryMib: Math.floor(Number(facts.memory_kib) / 1024),
    memory: {
      testedKib: Number(facts.memory_tested_kib),
      wrongBytes: Number(facts.memory_wrong_bytes),
      ...optional('corrected', facts.memory_corrected),
      ...optional('uncorrected', facts.memory_uncorrected),
    },
    ...optional('clockOffset', facts.clock_offset),
    disks,
    nics: links.nics(),
  };
}

const COUNT = /^[0-9]{1,15}$/;
const MAYBE_COUNT = /^[0-9]{0,15}$/;

const forms = {
  cores: CORES,
  memory_kib: KIB,
  memory_tested_kib: COUNT,
  memory_wrong_bytes: COUNT,
  memory_corrected: MAYBE_COUNT,
  memory_uncorrected: MAYBE_COUNT,
  clock_offset: /^(?:-?[0-9]{1,12})?$/,
};

function optional<Key extends string>(key: Key, text: string): Partial<Record<Key, number>> {
  return text === '' ? {} : ({ [key]: Number(text) } as Record<Key, number>);
}

function parseDisk(value: string): HealthCheck['disks'][number] | undefined {
  const [name = '', bytes = '', serial = '', read = '', smart, ...rest] = value.split('|');
  if (!DEVICE_NAME.test(name) || !COUNT.test(bytes) || rest.length > 0) return undefined;
  if (read !== 'ok' && !COUNT.test(read)) return undefined;
  if (smart !== 'ok' && smart !== 'failing' && smart !== 'unknown') return undefined;
  const unreadable = read === 'ok' ? {} : { unreadableAt: Number(read) };
  return { name, bytes: Number(bytes), serial: serial.trim(), smart, ...unreadable };
}
