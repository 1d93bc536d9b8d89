import type { EventLog } from '../../events/event-log.ts';
import type { Millis } from '../../kernel/clock.ts';
import type { Ids } from '../../kernel/ids.ts';
import type { Secret } from '../../kernel/secret.ts';
import type { ExpectedMachineRow } from '../../store/schema.ts';
import type { Reader, Tx } from '../../store/store.ts';
import type { ManifestEntry, ManifestFault } from './manifest-file.ts';
import { refused } from './manifest-file.ts';

export interface ManifestDeps {
  readonly events: EventLog;
  readonly ids: Ids;
  /** Seals a BMC's password for one row, and opens it again. */
  readonly seal: (rowId: string, password: Secret) => string;
  readonly unseal: (rowId: string, sealed: string) => Secret;
}

export interface LoadedManifest {
  readonly added: number;
  readonly changed: number;
  readonly unchanged: number;
}

/**
 * Adds the rows of a manifest, and changes those that are there under the same serial number; rows that it does not name stay. The
 * same manifest again changes nothing. A row whose serial number an enrolled machine has is that machine's; of a machine that is
 * enrolled nothing is changed, `manifest check` tells where the two differ.
 *
 * Error: `request.invalid`, one complaint a field, and then nothing is changed.
 */
export async function loadManifest(
  tx: Tx,
  deps: ManifestDeps,
  entries: readonly ManifestEntry[],
  { actor, origin, at }: { actor: string; origin?: string | undefined; at: Millis },
): Promise<LoadedManifest> {
  const world = await worldOf(tx);
  const faults: ManifestFault[] = entries.flatMap((entry) => faultsOf(entry, world, entries));
  if (faults.length > 0) throw refused(faults);
  const count = { added: 0, changed: 0, unchanged: 0 };
  const news: [ManifestEntry, ExpectedMachineRow | undefined][] = [];
  for (const entry of entries) {
    const row = world.rows.find(({ serial }) => serial === entry.serial);
    const outcome = row === undefined ? 'added' : isSame(entry, row, world, deps) ? 'unchanged' : 'changed';
    count[outcome] += 1;
    if (outcome !== 'unchanged') news.push([entry, row]);
  }
  // Two rows may have exchanged their names or BMCs: what is written anew is out of the way first.
  const replaced = news.flatMap(([, row]) => (row === undefined ? [] : [row.id]));
  if (replaced.length > 0) await tx.deleteFrom('expected_machines').where('id', 'in', replaced).execute();
  for (const [entry, row] of news) {
    const id = row?.id ?? deps.ids.next('exp');
    await tx
      .insertInto('expected_machines')
      .values({
        ...columnsOf(entry, world),
        id,
        bmc_password: deps.seal(id, entry.bmc.password),
        machine_id: row?.machine_id ?? machineWith(entry.serial, world),
        created_at: row?.created_at ?? at,
        updated_at: at,
      })
      .execute();
  }
  if (news.length > 0) {
    const data = { added: count.added, changed: count.changed };
    await deps.events.append(tx, 'manifest.loaded', { key: 'manifest', actor, origin, data });
  }
  return count;
}

/** What the manifest has, by the names of the racks. */
export function manifestRows(read: Reader) {
  return read
    .selectFrom('expected_machines')
    .innerJoin('racks', 'racks.id', 'expected_machines.rack_id')
    .innerJoin('regions', 'regions.id', 'racks.region_id')
    .selectAll('expected_machines')
    .select(['racks.name as rack', 'regions.name as region', 'regions.id as region_id'])
    .orderBy('regions.name')
    .orderBy('racks.name')
    .orderBy('expected_machines.unit')
    .orderBy('expected_machines.serial')
    .execute();
}

export type NamedRow = Awaited<ReturnType<typeof manifestRows>>[number];

/** Forgets a row; the machine that was enrolled by it stays. False: there is none. */
export async function removeExpected(
  tx: Tx,
  events: EventLog,
  id: string,
  by: { actor: string; origin?: string | undefined },
): Promise<boolean> {
  const row = await tx.deleteFrom('expected_machines').where('id', '=', id).returning('serial').executeTakeFirst();
  if (row === undefined) return false;
  const data = { rowId: id, serial: row.serial };
  await events.append(tx, 'manifest.row-removed', { key: 'manifest', ...by, data });
  return true;
}

/** What a manifest is held against when it is loaded. */
interface World {
  readonly racks: readonly { readonly id: string; readonly name: string; readonly region: string }[];
  readonly machines: readonly {
    readonly id: string;
    readonly name: string;
    readonly serial: string | null;
    readonly bmc_address: string;
    readonly bmc_port: number;
  }[];
  readonly rows: readonly ExpectedMachineRow[];
}

async function worldOf(read: Reader): Promise<World> {
  const racks = await read
    .selectFrom('racks')
    .innerJoin('regions', 'regions.id', 'racks.region_id')
    .select(['racks.id', 'racks.name', 'regions.name as region'])
    .execute();
  const machines = await read
    .selectFrom('machines')
    .select(['id', 'name', 'serial', 'bmc_address', 'bmc_port'])
    .execute();
  return { racks, machines, rows: await read.selectFrom('expected_machines').selectAll().execute() };
}

function faultsOf(entry: ManifestEntry, world: World, entries: readonly ManifestEntry[]): ManifestFault[] {
  const fault = (column: string, message: string): ManifestFault => ({
    field: `/rows/${String(entry.index)}/${column}`,
    message: `Row ${String(entry.index + 1)}: ${message}`,
  });
  const faults: ManifestFault[] = [];
  if (rackOf(entry, world) === undefined) {
    const known = world.racks.some(({ region }) => region === entry.region);
    faults.push(
      known
        ? fault('rack', `region ${entry.region} has no rack ${entry.rack}.`)
        : fault('region', `there is no region ${entry.region}.`),
    );
  }
  if (alike(entry.serial, world).length > 1) {
    faults.push(fault('serial', 'several machines have this serial number: it can not tell them apart.'));
  }
  const own = machineWith(entry.serial, world) ?? world.rows.find(({ serial }) => serial === entry.serial)?.machine_id;
  for (const { id, name, bmc_address, bmc_port } of world.machines) {
    if (id === own) continue;
    if (name === entry.name) faults.push(fault('name', `machine ${name} is another one.`));
    if (bmc_address === entry.bmc.address && bmc_port === entry.bmc.port) {
      faults.push(fault('bmc_address', `machine ${name} has this BMC.`));
    }
  }
  // A row that this manifest writes anew is in nobody's way.
  const others = world.rows.filter(({ serial }) => !entries.some((each) => each.serial === serial));
  for (const other of others) {
    if (other.name === entry.name) faults.push(fault('name', `the row of ${other.serial} has this name.`));
    if (other.bmc_address === entry.bmc.address && other.bmc_port === entry.bmc.port) {
      faults.push(fault('bmc_address', `the row of ${other.serial} has this BMC.`));
    }
  }
  return faults;
}

function rackOf({ rack, region }: ManifestEntry, { racks }: World): string | undefined {
  return racks.find((each) => each.name === rack && each.region === region)?.id;
}

function alike(serial: string, { machines }: World): World['machines'] {
  return machines.filter((machine) => machine.serial === serial);
}

function machineWith(serial: string, world: World): string | null {
  return alike(serial, world)[0]?.id ?? null;
}

function isSame(entry: ManifestEntry, row: ExpectedMachineRow, world: World, { unseal }: ManifestDeps): boolean {
  const stored: Partial<Record<string, unknown>> = { ...row };
  const columns = Object.entries(columnsOf(entry, world));
  return (
    columns.every(([name, value]) => stored[name] === value) &&
    unseal(row.id, row.bmc_password).reveal() === entry.bmc.password.reveal() &&
    (row.machine_id ?? machineWith(entry.serial, world)) === row.machine_id
  );
}

function columnsOf({ serial, name, unit, bmc, nicRole, switchPort, ...place }: ManifestEntry, { racks }: World) {
  return {
    ...{ serial, name, unit, nic_role: nicRole, switch_port: switchPort },
    rack_id: racks.find((each) => each.name === place.rack && each.region === place.region)?.id ?? '',
    bmc_kind: bmc.kind,
    bmc_address: bmc.address,
    bmc_port: bmc.port,
    bmc_username: bmc.username,
    bmc_cipher_suite: bmc.cipherSuite,
  };
}
