import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { test } from 'tap';

import type { FaultRates, Mishap } from '../sim/faults.ts';
import { tally } from '../sim/event-follower.ts';
import { hardwareModels } from '../sim/models.ts';
import type { SimulatedSite } from '../sim/site.ts';
import { inTurns, openSimulatedSite } from '../sim/site.ts';
import { showInReport } from '../test/report-file.ts';

/** What is wrong with a machine, and the cause that diagnosis must name for it. */
const faults: readonly (readonly [Mishap, string])[] = [
  ['bmc-password', 'bmc-credentials'],
  ['bmc-mute', 'bmc-silent'],
  ['bmc-hangs', 'bmc-hung'],
  ['bmc-drops-flag', 'bmc-drops-boot-flag'],
  ['power-dead', 'power-stays-off'],
  ['boots-disk', 'boot-order'],
  ['no-link', 'no-link'],
  ['foreign-dhcp', 'foreign-dhcp-server'],
  ['arm64', 'loader-missing'],
  ['other-uuid', 'machine-swapped'],
  ['twin', 'duplicate-mac'],
  ['declines', 'address-in-use'],
  ['strange-relay', 'relay-refused'],
  ['tftp-blocked', 'tftp-blocked'],
  ['tftp-cut', 'tftp-cut'],
  ['slow', 'boot-window-closed'],
  ['panic', 'ramdisk-panic'],
  ['clock-1970', 'clock-off'],
  ['other-ca', 'ca-unknown'],
  ['claimed-twice', 'second-claimant'],
  ['chunk-altered', 'image-chunk-altered'],
  ['map-altered', 'image-map-altered'],
  ['disk-write', 'disk-io-errors'],
  ['smaller-disk', 'disk-too-small'],
  ['two-disks', 'disk-ambiguous'],
  ['kexec-hang', 'kexec-hang'],
  ['system-network', 'system-network'],
  ['sshd-off', 'ssh-closed'],
  ['host-key', 'address-taken'],
];
const MOST_WRONG = 2;
/** Found when the machine is inspected: no boot of it succeeds. All others are inspected in good health. */
const atInspection: ReadonlySet<Mishap> = new Set([
  'bmc-password',
  'bmc-mute',
  'bmc-hangs',
  'bmc-drops-flag',
  'power-dead',
]);

const HEALTHY = 10;
/** What healthy machines live with. */
const bumps: FaultRates = {
  packets: { lost: 0.01, doubled: 0.02, late: 0.02, lateMs: 100 },
  bmc: { lost: 0.02, doubled: 0.02, late: 0.02, lateMs: 300 },
};

const settings = [
  'deadlines: { bootWindow: 25000, stage: 32000, stageFloor: 32000, verify: 12000 }',
  'retry: { attempts: 1 }',
];
const PHASE_MS = 120_000;

interface Diagnosis {
  readonly verdict: string;
  readonly summary: string;
  readonly findings: readonly { readonly cause: string; readonly certainty: string; readonly evidence: string[] }[];
}

test(`of ${faults.length} faults all but ${MOST_WRONG} are named by what they left behind, and no healthy boot is blamed`, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rs-diagnosis-'));
  const site = await openSimulatedSite({
    ...{ name: 'diagnosis', directory, machines: faults.length + HEALTHY, speed: 50, settings },
    // Each has its own number of cores and least memory of those with fewer: an order finds this machine and no other.
    hardware: (number) => ({
      ...hardwareModels[(number - 1) % hardwareModels.length]!,
      ...{ cores: 100 + number, memoryMib: (200 - number) * 1024, diskGib: 64 },
    }),
    more: (number) => {
      const fault = faults[number - 1];
      return fault === undefined ? { faults: bumps } : { mishap: fault[0] };
    },
  });
  try {
    await play(site);
  } catch (error) {
    t.fail(error instanceof Error ? error.message : String(error));
  }
  await site.close();
  if (t.passing()) rmSync(directory, { recursive: true });
  else console.error(`evidence is kept in ${directory}: appliance/daemon.log, appliance/state, simulation.log`);

  async function play({ machines, follower, operator }: SimulatedSite): Promise<void> {
    const diagnosisOf = (session: string) => operator.get<Diagnosis>(`/boots/${session}/diagnosis`);
    const lastBoot = async (path: string) => {
      const { boots } = await operator.get<{ boots: { session: string }[] }>(path);
      return boots[0]!.session;
    };
    const healthy: Diagnosis[] = [];
    const [early, late] = [machines.filter(isEarly), machines.filter((machine) => !isEarly(machine))];

    const doomed = await inTurns(early, 8, (machine) => site.register(machine));
    const ids = await site.enrol(late, PHASE_MS);
    for (const id of ids) healthy.push(await diagnosisOf(await lastBoot(`/machines/${id}/boots`)));

    const orders = await inTurns(late, 8, ({ name, hardware }) => site.order(name, hardware.cores));
    await pause(3_000);
    const sound = orders.slice(-HEALTHY).map(({ id }) => id);
    for (const id of sound) healthy.push(await diagnosisOf(await lastBoot(`/boots?server=${id}`)));
    const states = () => [
      ...follower.requests.values(),
      ...doomed.map((id) => follower.machines.get(id) ?? 'enrolled'),
    ];
    await follower.until(
      () => `the end of ${orders.length} deploys and ${doomed.length} inspections; ${tally(states())}`,
      PHASE_MS,
      () => states().length === machines.length && states().every((state) => ENDED.has(state)),
    );
    for (const id of sound) {
      t.equal(follower.requests.get(id), 'completed', 'a healthy machine deploys');
      healthy.push(await diagnosisOf(await lastBoot(`/boots?server=${id}`)));
    }

    const paths = new Map([
      ...early.map(({ name }, index) => [name, `/machines/${doomed[index]!}/boots`] as const),
      ...late.map(({ name }, index) => [name, `/boots?server=${orders[index]!.id}`] as const),
    ]);
    const rows: Row[] = [];
    for (const [index, [fault, cause]] of faults.entries()) {
      rows.push({ fault, cause, told: await diagnosisOf(await lastBoot(paths.get(machines[index]!.name)!)) });
    }
    const right = rows.filter(isRight).length;
    const blamed = healthy.filter(({ verdict, findings }) => findings.length > 0 || verdict === 'unknown');
    showInReport(
      `${table(rows)}${right} of ${rows.length} faults named; ${blamed.length} of ${healthy.length} looks at healthy boots found fault\n`,
    );
    t.ok(right >= rows.length - MOST_WRONG, `${right} of ${rows.length} faults are named`);
    t.strictSame(blamed, [], `${healthy.length} looks at healthy boots, under way and ended, find nothing`);
    for (const { fault, told } of rows.filter(isRight)) {
      t.ok(told.findings[0]!.evidence.length > 0 || fault === 'claimed-twice', `${fault}: it stands on evidence`);
    }
  }
});

const ENDED: ReadonlySet<string> = new Set(['completed', 'rolling-back', 'rolled-back', 'quarantined']);

const isEarly = ({ mishap }: { readonly mishap?: Mishap }) => mishap !== undefined && atInspection.has(mishap);

interface Row {
  readonly fault: Mishap;
  readonly cause: string;
  readonly told: Diagnosis;
}

const isRight = ({ cause, told }: Row) => told.findings[0]?.cause === cause;

function table(rows: readonly Row[]): string {
  const lines = rows.map((row) => {
    const { fault, cause, told } = row;
    const [first] = told.findings;
    const found = first === undefined ? told.verdict : `${first.cause} (${first.certainty})`;
    return `${isRight(row) ? '  ' : '! '}${fault.padEnd(16)} ${cause.padEnd(22)} ${found.padEnd(32)} ${first?.evidence[0] ?? told.summary}`;
  });
  return [`  ${'fault'.padEnd(16)} ${'cause'.padEnd(22)} ${'diagnosis'.padEnd(32)} stands on`, ...lines, ''].join('\n');
}
