import type { Reader } from '../../store/store.ts';
import { openIssues } from '../machine-issues.ts';
import { manifestRows } from './manifest.ts';

/** What was racked, held against what was expected. */
export interface ManifestCheck {
  /** Expected, and not enrolled; `waits`: why, where a machine of that serial number has booted. */
  readonly missing: { serial: string; name: string; rack: string; unit: number; waits: string | null }[];
  /** There, and in no row: an enrolled machine, or one that has booted unknown. */
  readonly unexpected: {
    machine: string | null;
    discovered: string | null;
    serial: string | null;
    mac: string | null;
  }[];
  /** Enrolled, and other than its row says. */
  readonly differing: { machine: string; serial: string; what: string; expected: string; seen: string }[];
}

export async function checkManifest(read: Reader): Promise<ManifestCheck> {
  const rows = await manifestRows(read);
  const machines = await read
    .selectFrom('machines')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .selectAll('machines')
    .select('racks.name as rack')
    .where('machines.state', '!=', 'retired')
    .orderBy('machines.name')
    .execute();
  const waiting = await read
    .selectFrom('discovered_machines')
    .select(['id', 'mac', 'serial', 'reason'])
    .where('state', 'in', ['inspecting', 'waiting'])
    .orderBy('first_seen_at')
    .execute();
  const known = new Set(rows.map(({ machine_id }) => machine_id));
  const serials = new Set(rows.map(({ serial }) => serial));
  return {
    missing: rows
      .filter(({ machine_id }) => machine_id === null)
      .map(({ serial, name, rack, unit }) => {
        const seen = waiting.find((each) => each.serial === serial);
        return {
          serial,
          name,
          rack,
          unit,
          waits: seen === undefined ? null : (seen.reason ?? 'It is being looked at.'),
        };
      }),
    unexpected: [
      ...machines
        .filter(({ id }) => !known.has(id))
        .map(({ id, serial }) => ({ machine: id, discovered: null, serial, mac: null })),
      ...waiting
        .filter(({ serial }) => serial === null || !serials.has(serial))
        .map(({ id, serial, mac }) => ({ machine: null, discovered: id, serial, mac })),
    ],
    differing: (
      await Promise.all(
        rows.map(async (row) => {
          const machine = machines.find(({ id }) => id === row.machine_id);
          if (machine === undefined) return [];
          const pairs = [
            ['serial', row.serial, machine.serial ?? row.serial],
            ['name', row.name, machine.name],
            ['rack', row.rack, machine.rack],
            [
              'BMC address',
              `${row.bmc_address}:${String(row.bmc_port)}`,
              `${machine.bmc_address}:${String(machine.bmc_port)}`,
            ],
          ] as const;
          const drift = (await openIssues(read, machine.id)).find(({ type }) => type === 'inventory-drift');
          return [
            ...pairs
              .filter(([, expected, seen]) => expected !== seen)
              .map(([what, expected, seen]) => ({ machine: machine.id, serial: row.serial, what, expected, seen })),
            ...(drift === undefined
              ? []
              : [
                  {
                    machine: machine.id,
                    serial: row.serial,
                    what: 'inventory',
                    expected: 'as it was known',
                    seen: drift.message,
                  },
                ]),
          ];
        }),
      )
    ).flat(),
  };
}
