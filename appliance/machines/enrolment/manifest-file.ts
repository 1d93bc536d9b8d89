import { isIP } from 'node:net';

import { parse } from 'yaml';

import { RackstartError } from '../../kernel/errors.ts';
import { Secret } from '../../kernel/secret.ts';
import type { ExpectedMachineRow } from '../../store/schema.ts';
import { readCsv } from './csv.ts';

export type ManifestFormat = 'csv' | 'yaml';

/** One machine as a manifest tells of it; rack and region by name. */
export interface ManifestEntry {
  /** Where it stands in the file, counted from 0. */
  readonly index: number;
  readonly serial: string;
  readonly name: string;
  readonly region: string;
  readonly rack: string;
  readonly unit: number;
  readonly bmc: {
    readonly kind: ExpectedMachineRow['bmc_kind'];
    readonly address: string;
    readonly port: number;
    readonly username: string;
    readonly password: Secret;
    readonly cipherSuite: 3 | 17;
  };
  readonly nicRole: ExpectedMachineRow['nic_role'];
  readonly switchPort: string | null;
}

/** What is wrong with one field of one row; `field` as in `/rows/2/bmc_address`, rows counted from 0. */
export interface ManifestFault {
  readonly field: string;
  readonly message: string;
}

const MOST_ROWS = 2_000;
export const MOST_MANIFEST_BYTES = 512 * 1024;

/** More complaints help nobody. */
const MOST_FAULTS = 100;

/**
 * Reads a manifest: CSV with a header line (RFC 4180), or a YAML list of mappings, with the same names in both. YAML is read as text
 * alone (failsafe schema), so that a serial number `007` stays one; aliases, which can blow up a small file, are refused.
 *
 * Error: `request.invalid`, one complaint a field.
 */
export function readManifest(format: ManifestFormat, text: string): ManifestEntry[] {
  if (Buffer.byteLength(text) > MOST_MANIFEST_BYTES) {
    throw refused([{ field: '/text', message: `A manifest has at most ${String(MOST_MANIFEST_BYTES)} bytes.` }]);
  }
  const rows = format === 'csv' ? csvRows(text) : yamlRows(text);
  if (rows.length > MOST_ROWS) {
    throw refused([{ field: '/text', message: `A manifest has at most ${String(MOST_ROWS)} rows.` }]);
  }
  const faults: ManifestFault[] = [];
  const entries = rows.map((row, index) => readRow(row, index, faults));
  faults.push(...repetitions(entries));
  if (faults.length > 0) throw refused(faults);
  return entries;
}

/** As the error that names them all. */
export function refused(faults: readonly ManifestFault[]): RackstartError {
  const fields = faults.slice(0, MOST_FAULTS);
  const more = faults.length > fields.length ? `, of which ${String(fields.length)} are named` : '';
  const message = `The manifest has ${String(faults.length)} fault${faults.length === 1 ? '' : 's'}${more}; nothing was changed.`;
  return new RackstartError('request.invalid', message, { fields });
}

interface Column {
  readonly required: boolean;
  readonly fits: (text: string) => boolean;
  readonly must: string;
}

const NAME = /^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/;
const named = (required: boolean): Column => ({
  required,
  fits: (text) => NAME.test(text),
  must: 'must be lower case letters, digits, dots and hyphens, at most 63',
});
const choice = (...choices: readonly string[]): Column => ({
  required: false,
  fits: (text) => choices.includes(text),
  must: `must be ${choices.join(' or ')}`,
});
const whole = (required: boolean, least: number, most: number): Column => ({
  required,
  fits: (text) => /^[0-9]{1,6}$/.test(text) && Number(text) >= least && Number(text) <= most,
  must: `must be a whole number from ${String(least)} to ${String(most)}`,
});
const printed = (required: boolean, most: number): Column => ({
  required,
  fits: (text) => text.length <= most && /^[!-~]([ -~]*[!-~])?$/.test(text),
  must: `must be at most ${String(most)} printable ASCII characters, without blanks around`,
});

/** Every column there is. What a BMC takes of names and passwords: IPMI 2.0, §22.27 and §22.30. */
const columns = {
  serial: printed(true, 100),
  name: named(false),
  region: named(true),
  rack: named(true),
  unit: whole(true, 1, 100),
  bmc_address: { required: true, fits: (text) => isIP(text) !== 0, must: 'must be an IPv4 or IPv6 address' },
  bmc_port: whole(false, 1, 65_535),
  bmc_user: printed(true, 16),
  bmc_password: {
    required: true,
    fits: (text) => text.length <= 20 && !/\p{Cc}/u.test(text),
    must: 'must be at most 20 characters',
  },
  bmc_kind: choice('ipmi', 'ipmitool'),
  cipher_suite: choice('3', '17'),
  nic_role: choice('both', 'provisioning'),
  switch_port: printed(false, 200),
} as const satisfies Record<string, Column>;

type ColumnName = keyof typeof columns;
const columnNames = Object.keys(columns) as ColumnName[];

type Row = ReadonlyMap<string, string>;

function readRow(row: Row, index: number, faults: ManifestFault[]): ManifestEntry {
  const complain = (column: string, message: string) =>
    faults.push({ field: `/rows/${String(index)}/${column}`, message: `Row ${String(index + 1)}: ${message}.` });
  for (const name of row.keys()) if (!Object.hasOwn(columns, name)) complain(shown(name), 'there is no such column');
  for (const name of columnNames) {
    const { required, fits, must } = columns[name];
    const value = row.get(name) ?? '';
    if (value === '' && required) complain(name, `${name} is missing`);
    // What it is instead is not said: a password may stand in the wrong column.
    else if (value !== '' && !fits(value)) complain(name, `${name} ${must}`);
  }
  const value = (name: ColumnName) => row.get(name) ?? '';
  const [rack, unit] = [value('rack'), value('unit')];
  return {
    index,
    serial: value('serial'),
    name: value('name') || `${rack}-u${unit}`,
    region: value('region'),
    rack,
    unit: Number(unit),
    bmc: {
      kind: value('bmc_kind') === 'ipmitool' ? 'ipmitool' : 'ipmi',
      address: value('bmc_address'),
      port: Number(value('bmc_port') || '623'),
      username: value('bmc_user'),
      password: new Secret(value('bmc_password')),
      cipherSuite: value('cipher_suite') === '3' ? 3 : 17,
    },
    nicRole: value('nic_role') === 'provisioning' ? 'provisioning' : 'both',
    switchPort: value('switch_port') || null,
  };
}

/** What two rows of one file must not share. */
function repetitions(entries: readonly ManifestEntry[]): ManifestFault[] {
  const keys: readonly (readonly [ColumnName, (entry: ManifestEntry) => string])[] = [
    ['serial', ({ serial }) => serial],
    ['name', ({ name }) => name],
    ['bmc_address', ({ bmc }) => (bmc.address === '' ? '' : `${bmc.address} ${String(bmc.port)}`)],
  ];
  return keys.flatMap(([column, keyOf]) => {
    const first = new Map<string, number>();
    return entries.flatMap((entry) => {
      const key = keyOf(entry);
      const before = first.get(key);
      if (before === undefined) first.set(key, entry.index);
      if (before === undefined || key === '') return [];
      const message = `Row ${String(entry.index + 1)}: row ${String(before + 1)} has this ${column}, too.`;
      return [{ field: `/rows/${String(entry.index)}/${column}`, message }];
    });
  });
}

function csvRows(text: string): Row[] {
  const lines = readCsv(text, MOST_ROWS + 1);
  if (lines === undefined)
    throw refused([{ field: '/text', message: 'A quote of the CSV is never closed, or stands inside a field.' }]);
  const [header, ...rest] = lines;
  if (header === undefined) return [];
  const names = header.map((name) => name.trim());
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) {
    throw refused([{ field: '/text', message: `The header has the column ${shown(twice)} twice.` }]);
  }
  const long = rest.findIndex((fields) => fields.length > names.length);
  if (long !== -1) {
    const message = `Row ${String(long + 1)}: it has more fields than the header.`;
    throw refused([{ field: `/rows/${String(long)}`, message }]);
  }
  return rest.map((fields) => new Map(names.map((name, index) => [name, (fields[index] ?? '').trim()])));
}

function yamlRows(text: string): Row[] {
  let value: unknown;
  try {
    value = parse(text, { schema: 'failsafe', maxAliasCount: 0, prettyErrors: false, logLevel: 'error' });
  } catch {
    // Its own words quote the file, passwords too.
    throw refused([{ field: '/text', message: 'This is no YAML that is read here: no aliases, and no name twice.' }]);
  }
  const list: unknown = value === '' || value === null ? [] : value;
  if (!Array.isArray(list)) {
    throw refused([{ field: '/text', message: 'A manifest in YAML is a list with a mapping for each machine.' }]);
  }
  return list.slice(0, MOST_ROWS + 1).map((item: unknown, index) => {
    const fields = typeof item === 'object' && item !== null && !Array.isArray(item) ? Object.entries(item) : undefined;
    if (fields?.every((pair): pair is [string, string] => typeof pair[1] === 'string') === true) {
      return new Map(fields.map(([name, field]) => [name, field.trim()]));
    }
    const message = `Row ${String(index + 1)}: it must be a mapping from names to plain values.`;
    throw refused([{ field: `/rows/${String(index)}`, message }]);
  });
}

/** A name that somebody made up, fit to be told. */
function shown(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9_-]/g, '?').slice(0, 40) || '?';
}
