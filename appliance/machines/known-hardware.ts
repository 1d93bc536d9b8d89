import type { HealthCheck, Inspection } from '../../pxe/boot-plan.ts';
import type { Reader } from '../store/store.ts';
import { openIssues } from './machine-issues.ts';
import type { IssueName } from './machine-issues.ts';
import type { Finding, Verdict } from './verdict.ts';

/** What a machine is known to have: as its inventory has it, with what open issues say it should have besides. */
export interface KnownHardware {
  readonly cores: number | null;
  readonly memoryMib: number | null;
  readonly disks: readonly KnownDisk[];
  readonly nics: readonly KnownNic[];
}

interface KnownDisk {
  readonly name: string;
  readonly bytes: number;
  readonly serial: string;
}

interface KnownNic {
  readonly mac: string;
  /** It had a link, or is plugged in as far as anybody said. */
  readonly linked: boolean;
  readonly speedMbps: number | null;
}

/** Both an inspection and a check tell that much. */
export type SeenHardware = Pick<HealthCheck, 'cores' | 'memoryMib' | 'nics'> & {
  readonly disks: readonly Pick<Inspection['disks'][number], 'name' | 'bytes' | 'serial'>[];
};

/**
 * Before an inspection overwrites the inventory. What was found missing stays expected for as long as its issue is open: the part
 * comes back, or an operator says that it was taken out, and resolves it.
 */
export async function knownHardware(read: Reader, machineId: string): Promise<KnownHardware> {
  const { cores, memory_mib } = await read
    .selectFrom('machines')
    .select(['cores', 'memory_mib'])
    .where('id', '=', machineId)
    .executeTakeFirstOrThrow();
  const disks = await read
    .selectFrom('machine_disks')
    .select(['name', 'bytes', 'serial'])
    .where('machine_id', '=', machineId)
    .execute();
  const nics = await read.selectFrom('machine_nics').selectAll().where('machine_id', '=', machineId).execute();
  const open = new Map((await openIssues(read, machineId)).map(({ type, evidence }) => [type, evidence]));
  const expected = <Type extends keyof Expected>(type: Type): Expected[Type] | undefined => {
    const evidence = open.get(type);
    return evidence === undefined ? undefined : (JSON.parse(evidence) as { expected?: Expected[Type] }).expected;
  };
  const gone = new Set(expected('nic-missing'));
  const linked = new Set(expected('nic-no-link'));
  const speeds = expected('nic-slow');
  return {
    cores: expected('cpu-missing') ?? cores,
    memoryMib: expected('memory-missing') ?? memory_mib,
    disks: [...disks, ...(expected('disk-missing') ?? []).filter((disk) => !isAmong(disk, disks))],
    nics: nics
      .filter(({ mac, link }) => link !== 'gone' || gone.has(mac))
      .map(({ mac, link, role, switch_port, speed_mbps }) => ({
        mac,
        linked: link === 'up' || linked.has(mac) || (link === null && (role !== 'customer' || switch_port !== null)),
        speedMbps: speeds?.[mac] ?? speed_mbps,
      })),
  };
}

/** What has become less. More of something is no loss; nor is anything to a machine that nobody has inspected yet. */
export function lossesOf(known: KnownHardware, seen: SeenHardware): Verdict {
  const findings = [fewerCores, lessMemory, missingDisks, missingNics, linksDown, slowNics]
    .map((look) => look(known, seen))
    .filter((finding) => finding !== undefined);
  // A NIC without a link has no speed: that is no news about it.
  const speedsKnown = known.nics.every((nic) => nic.speedMbps === null || seenNic(seen, nic)?.speedMbps !== undefined);
  return { findings, lookedAt: speedsKnown ? [...losses, 'nic-slow'] : losses };
}

/** What an issue keeps of what was there before. */
interface Expected {
  'cpu-missing': number;
  'memory-missing': number;
  'disk-missing': readonly KnownDisk[];
  'nic-missing': readonly string[];
  'nic-no-link': readonly string[];
  'nic-slow': Readonly<Record<string, number>>;
}

const losses: readonly IssueName[] = ['cpu-missing', 'memory-missing', 'disk-missing', 'nic-missing', 'nic-no-link'];

function loss<Type extends keyof Expected>(
  type: Type,
  message: string,
  expected: Expected[Type],
  seen: unknown,
): Finding {
  return { type, message, evidence: { expected, seen } };
}

function fewerCores({ cores }: KnownHardware, seen: SeenHardware): Finding | undefined {
  if (cores === null || seen.cores >= cores) return undefined;
  return loss('cpu-missing', `It has ${String(seen.cores)} cores, and had ${String(cores)}.`, cores, seen.cores);
}

// Firmware keeps a little more or less for itself from boot to boot; the smallest module is a larger part.
const ROUNDING = 0.97;

function lessMemory({ memoryMib }: KnownHardware, seen: SeenHardware): Finding | undefined {
  if (memoryMib === null || seen.memoryMib >= memoryMib * ROUNDING) return undefined;
  const message = `It has ${String(seen.memoryMib)} MiB of memory, and had ${String(memoryMib)}.`;
  return loss('memory-missing', message, memoryMib, seen.memoryMib);
}

/** What of the disks is gone, as an issue; also a wipe asks. */
export function missingDisks(
  { disks }: Pick<KnownHardware, 'disks'>,
  seen: Pick<SeenHardware, 'disks'>,
): Finding | undefined {
  const gone = disks.filter((disk) => !isAmong(disk, seen.disks));
  if (gone.length === 0) return undefined;
  const names = gone.map(({ name, serial }) => (serial === '' ? name : `${name}, serial ${serial}`));
  const here = seen.disks.map(({ name, bytes, serial }) => ({ name, bytes, serial }));
  return loss('disk-missing', `Gone: ${names.join('; ')}.`, gone, here);
}

// A disk is told by its serial number; where there is none, by its place and size.
function isAmong({ name, bytes, serial }: KnownDisk, disks: readonly KnownDisk[]): boolean {
  return disks.some((one) => (serial === '' ? one.name === name && one.bytes === bytes : one.serial === serial));
}

function missingNics({ nics }: KnownHardware, seen: SeenHardware): Finding | undefined {
  const gone = nics.filter((nic) => seenNic(seen, nic) === undefined).map(({ mac }) => mac);
  if (gone.length === 0) return undefined;
  return loss('nic-missing', `Gone: ${gone.join(', ')}.`, gone, seen.nics);
}

function linksDown({ nics }: KnownHardware, seen: SeenHardware): Finding | undefined {
  const down = nics.filter((nic) => nic.linked && seenNic(seen, nic)?.up === false).map(({ mac }) => mac);
  if (down.length === 0) return undefined;
  return loss('nic-no-link', `No link at ${down.join(', ')}.`, down, seen.nics);
}

function slowNics({ nics }: KnownHardware, seen: SeenHardware): Finding | undefined {
  const slow = nics.flatMap((nic) => {
    const now = seenNic(seen, nic)?.speedMbps;
    return now === undefined || nic.speedMbps === null || now >= nic.speedMbps ? [] : [{ ...nic, now }];
  });
  if (slow.length === 0) return undefined;
  const told = slow.map(({ mac, now, speedMbps }) => `${mac} at ${String(now)} instead of ${String(speedMbps)} Mbit/s`);
  const expected = Object.fromEntries(slow.map(({ mac, speedMbps }) => [mac, speedMbps ?? 0]));
  return loss('nic-slow', `Slow: ${told.join('; ')}.`, expected, seen.nics);
}

function seenNic({ nics }: SeenHardware, { mac }: KnownNic): SeenHardware['nics'][number] | undefined {
  return nics.find((nic) => nic.mac === mac);
}
