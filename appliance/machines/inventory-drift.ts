import type { Inspection } from '../../pxe/boot-plan.ts';
import type { Millis } from '../kernel/clock.ts';
import type { ExpectedMachineRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import type { Verdict } from './verdict.ts';

/** What is other than it was, or than the manifest says; null: nothing there. */
export interface Difference {
  /** `disk S1`, `serial number`, `BMC address (manifest)` … */
  readonly what: string;
  readonly expected: string | null;
  readonly seen: string | null;
}

/**
 * Holds an inspection against the last inventory that is known to be good, and against the manifest's row; the first inspection
 * is good. What differs stays an issue until it is as it was, or an operator resolves the issue, and so takes for good what was seen.
 */
export async function inspectedVerdict(tx: Tx, machineId: string, seen: Inspection, at: Millis): Promise<Verdict> {
  // Switches speak every half a minute: until the check that follows has heard them, they say what they said last.
  const before = (await seenInventory(tx, machineId))?.nics ?? [];
  const heard = seen.nics.filter(({ neighbour }) => neighbour !== undefined);
  return driftVerdict(tx, machineId, { ...seen, nics: withNeighbours(seen.nics, [...heard, ...before]) }, at);
}

/** The same with what switches said by the end of the check. */
export async function checkedVerdict(
  tx: Tx,
  machineId: string,
  { nics: heard }: Pick<Inspection, 'nics'>,
  at: Millis,
): Promise<Verdict> {
  const seen = await seenInventory(tx, machineId);
  if (seen === undefined) return { findings: [], lookedAt: [] };
  return driftVerdict(tx, machineId, { ...seen, nics: withNeighbours(seen.nics, heard) }, at);
}

/** NICs with the neighbours that the first of the other list has for each. */
export function withNeighbours(nics: Inspection['nics'], heard: Inspection['nics']): Inspection['nics'] {
  return nics.map(({ neighbour: _, ...nic }) => {
    const neighbour = heard.find(({ mac }) => mac === nic.mac)?.neighbour;
    return neighbour === undefined ? nic : { ...nic, neighbour };
  });
}

async function driftVerdict(tx: Tx, machineId: string, seen: Inspection, at: Millis): Promise<Verdict> {
  const told = JSON.stringify(seen);
  const known = await tx
    .insertInto('machine_inventories')
    .values({ machine_id: machineId, good: told, good_at: at, seen: told, seen_at: at })
    .onConflict((conflict) => conflict.column('machine_id').doUpdateSet({ seen: told, seen_at: at }))
    .returning('good')
    .executeTakeFirstOrThrow();
  const row = await expectedOf(tx, machineId);
  const good = completed(JSON.parse(known.good) as Inspection, seen);
  await tx
    .updateTable('machine_inventories')
    .set({ good: JSON.stringify(good) })
    .where('machine_id', '=', machineId)
    .execute();
  const differences = [...differencesOf(good, seen), ...(row === undefined ? [] : fromManifest(row, seen))];
  const lookedAt = ['inventory-drift'] as const;
  if (differences.length === 0) return { findings: [], lookedAt };
  const message = `${differences.map(sentence).join('; ')}.`;
  return { findings: [{ type: 'inventory-drift', message, evidence: { differences } }], lookedAt };
}

/** What the last inspection saw; undefined before the first. */
export async function seenInventory(read: Reader, machineId: string): Promise<Inspection | undefined> {
  const row = await read
    .selectFrom('machine_inventories')
    .select('seen')
    .where('machine_id', '=', machineId)
    .executeTakeFirst();
  return row === undefined ? undefined : (JSON.parse(row.seen) as Inspection);
}

/** What was seen last is good from here on. */
export async function acceptInventory(tx: Tx, machineId: string, at: Millis): Promise<void> {
  await tx
    .updateTable('machine_inventories')
    .set((eb) => ({ good: eb.ref('seen'), good_at: at }))
    .where('machine_id', '=', machineId)
    .execute();
}

/** What two inspections of one machine tell differently. What only one of them could tell at all is no difference. */
export function differencesOf(good: Inspection, seen: Inspection): Difference[] {
  return [
    ...other('serial number', good.serial, seen.serial),
    ...other('SMBIOS UUID', good.uuid, seen.uuid),
    ...other('model', `${good.vendor} ${good.model}`, `${seen.vendor} ${seen.model}`),
    ...other('firmware', good.firmware, seen.firmware),
    ...told('firmware version', good.firmwareVersion, seen.firmwareVersion),
    ...told('BMC address', good.bmcAddress, seen.bmcAddress),
    ...other('cores', String(good.cores), String(seen.cores)),
    ...(isNear(good.memoryMib, seen.memoryMib) ? [] : other('memory', mib(good.memoryMib), mib(seen.memoryMib))),
    ...parts(disksOf(good), disksOf(seen)),
    ...(good.dimms === undefined || seen.dimms === undefined ? [] : parts(dimmsOf(good.dimms), dimmsOf(seen.dimms))),
    ...parts(nicsOf(good), nicsOf(seen)),
    ...good.nics.flatMap(({ mac, neighbour }) => {
      const now = seen.nics.find((nic) => nic.mac === mac);
      return told(`neighbour of ${mac}`, neighbour, now?.neighbour);
    }),
  ];
}

/** What nobody could tell before is good as it is told first. */
function completed(good: Inspection, seen: Inspection): Inspection {
  const nics = good.nics.map((nic) => ({ ...seen.nics.find(({ mac }) => mac === nic.mac), ...nic }));
  return { ...seen, ...good, nics };
}

/** What the manifest says of a machine, and it says otherwise. */
function fromManifest(row: ExpectedMachineRow, seen: Inspection): Difference[] {
  const ports = seen.nics.map(({ neighbour }) => neighbour).filter((port) => port !== undefined);
  const elsewhere = row.switch_port !== null && ports.length > 0 && !ports.includes(row.switch_port);
  return [
    ...other('serial number (manifest)', row.serial, seen.serial),
    ...told('BMC address (manifest)', row.bmc_address, seen.bmcAddress),
    ...(elsewhere ? [{ what: 'switch port (manifest)', expected: row.switch_port, seen: ports.join(', ') }] : []),
  ];
}

function expectedOf(read: Reader, machineId: string): Promise<ExpectedMachineRow | undefined> {
  return read.selectFrom('expected_machines').selectAll().where('machine_id', '=', machineId).executeTakeFirst();
}

// A disk goes by its serial number, so that one which the kernel names otherwise today is the same.
function disksOf({ disks }: Inspection): ReadonlyMap<string, string> {
  return new Map(
    disks.map(({ name, bytes, serial, model }) => [
      serial === '' ? `disk ${name}` : `disk ${serial}`,
      `${model} of ${String(bytes)} bytes`.trim(),
    ]),
  );
}

function dimmsOf(dimms: NonNullable<Inspection['dimms']>): ReadonlyMap<string, string> {
  return new Map(dimms.map((dimm) => [`memory module ${dimm.slot}`, `${mib(dimm.mib)} ${dimm.serial}`.trim()]));
}

function nicsOf({ nics }: Inspection): ReadonlyMap<string, string> {
  return new Map(nics.map(({ mac }) => [`NIC ${mac}`, mac]));
}

function parts(good: ReadonlyMap<string, string>, seen: ReadonlyMap<string, string>): Difference[] {
  return [...new Set([...good.keys(), ...seen.keys()])].flatMap((what) =>
    other(what, good.get(what) ?? null, seen.get(what) ?? null),
  );
}

function told(what: string, expected: string | undefined, seen: string | undefined): Difference[] {
  return expected === undefined || seen === undefined ? [] : other(what, expected, seen);
}

function other(what: string, expected: string | null, seen: string | null): Difference[] {
  return expected === seen ? [] : [{ what, expected, seen }];
}

// Firmware keeps a little more or less for itself from boot to boot.
function isNear(good: number, seen: number): boolean {
  return Math.abs(good - seen) <= good * 0.03;
}

function mib(size: number): string {
  return `${String(size)} MiB`;
}

function sentence({ what, expected, seen }: Difference): string {
  if (expected === null) return `${what} is new`;
  return seen === null ? `${what} is gone` : `${what} is ${seen}, and was ${expected}`;
}
