import type { RootImage } from './mirrored-image.ts';
import { whyNotMirrored } from './mirrored-image.ts';

/** Which disk: whatever is said must hold. */
export interface DiskRule {
  readonly minBytes: number;
  readonly maxBytes?: number;
  readonly serial?: string;
  readonly type?: DiskType;
}

export type DiskType = 'nvme' | 'ssd' | 'hdd';

/** A disk that a machine was seen with. */
export interface Disk {
  readonly name: string;
  readonly bytes: number;
  readonly type: DiskType;
  readonly serial: string;
}

/** What becomes of a machine's disks. Those that it does not speak of stay as they are. */
export interface DiskLayout {
  /** The disk that the image is written to. What the machine's own rule says of it holds as well. */
  readonly root?: RootDisk;
  readonly data: readonly DataDisk[];
  /** Of a file on the root. */
  readonly swapMib?: number;
}

export interface RootDisk extends DiskRule {
  /** A second disk with the same root and boot code: the server lives on when either of the two dies. */
  readonly mirror?: DiskRule;
}

/** A disk with one file system on all of it. */
export interface DataDisk {
  readonly disk: DiskRule;
  readonly mount: string;
  readonly fs: 'ext4' | 'xfs';
  readonly label: string;
}

export const plainLayout: DiskLayout = { data: [] };

/** What is to find a disk of its own, and by which rule: as the ramdisk asks, too (`images/ramdisk/disk.sh`). */
export interface DiskRole {
  /** `root`, `mirror`, or `data1`, `data2` … in the order of the layout. */
  readonly role: string;
  /** Undefined: machine and flavor ask for what no disk can be. */
  readonly rule: DiskRule | undefined;
}

export type DiskPlan =
  | {
      readonly kind: 'plan';
      readonly root: Disk;
      readonly mirror?: Disk;
      /** What a disk has for the root: of a mirror, the smaller one. */
      readonly rootBytes: number;
      readonly data: readonly Disk[];
      /** In the order in which they are done. */
      readonly steps: readonly DiskStep[];
      readonly untouched: readonly Disk[];
    }
  | { readonly kind: 'refused'; readonly refusals: readonly DiskRefusal[] };

/** One thing that is done to a disk; `erases`: whatever is on it is gone. */
export type DiskStep = { readonly disk: string; readonly erases: boolean } & (
  | { readonly stage: 'image'; readonly does: 'write-image' }
  | { readonly stage: 'grow'; readonly does: 'grow-root'; readonly bytes: number }
  | { readonly stage: 'grow'; readonly does: 'mirror-root'; readonly of: string; readonly bytes: number }
  | { readonly stage: 'grow'; readonly does: 'make-file-system'; readonly dataDisk: DataDisk }
  | { readonly stage: 'grow'; readonly does: 'make-swap-file'; readonly mib: number }
);

export interface DiskRefusal {
  readonly role: string;
  readonly reason: 'no-disk' | 'several-disks' | 'taken' | 'too-small' | 'image';
  readonly message: string;
}

export interface DiskQuestion {
  readonly layout: DiskLayout;
  readonly machineRule: DiskRule;
  readonly disks: readonly Disk[];
  /** What the image needs, where it is known. */
  readonly imageBytes?: number;
  /** Where it is to be said whether it can be mirrored. */
  readonly image?: RootImage | undefined;
  /** What the root must have at least. */
  readonly leastRootBytes?: number;
}

/**
 * Decides, before a byte is written, which disk becomes what. Roles take turns, the root first; a disk that has one is not asked
 * again. A rule that several disks match is refused, since what is erased can't be had back. Only of root and mirror it is all
 * the same which is which, when both rules match the same two disks: the first one is the root.
 */
export function planDisks(question: DiskQuestion): DiskPlan {
  const { layout, machineRule, disks } = question;
  const refusals: DiskRefusal[] = [];
  const free = new Set(disks);
  const roles = diskRoles(layout, machineRule);
  const twins = twinDisks(roles, disks);
  const found = new Map<string, Disk>();
  for (const role of roles) {
    const matching = role.role === 'root' && twins !== undefined ? twins.slice(0, 1) : matchingDisks(role, disks);
    const [disk, ...others] = matching.filter((each) => free.has(each));
    if (disk !== undefined && others.length === 0) {
      free.delete(disk);
      found.set(role.role, disk);
    } else {
      refusals.push(refusal(role, others.length, matching.length, disks));
    }
  }
  const [root, mirror] = [found.get('root'), found.get('mirror')];
  const rootBytes = Math.min(root?.bytes ?? Infinity, mirror?.bytes ?? Infinity);
  if (root !== undefined) refusals.push(...tooSmall(rootBytes, question));
  refusals.push(...imageRefusals(question));
  if (root === undefined || refusals.length > 0) return { kind: 'refused', refusals };
  const data = layout.data.flatMap((_, index) => found.get(`data${String(index + 1)}`) ?? []);
  const roots = { root, ...(mirror === undefined ? {} : { mirror }), rootBytes };
  return { kind: 'plan', ...roots, data, steps: steps(layout, roots, data), untouched: [...free] };
}

function imageRefusals({ layout, image }: Pick<DiskQuestion, 'layout' | 'image'>): DiskRefusal[] {
  const message = layout.root?.mirror === undefined || image === undefined ? undefined : whyNotMirrored(image);
  return message === undefined ? [] : [{ role: 'mirror', reason: 'image', message }];
}

function twinDisks([root, mirror]: readonly DiskRole[], disks: readonly Disk[]): readonly Disk[] | undefined {
  if (root === undefined || mirror?.role !== 'mirror') return undefined;
  const twins = matchingDisks(root, disks);
  const others = matchingDisks(mirror, disks);
  return twins.length === 2 && others.length === 2 && twins.every((disk) => others.includes(disk)) ? twins : undefined;
}

function matchingDisks({ rule }: DiskRole, disks: readonly Disk[]): readonly Disk[] {
  return disks.filter((disk) => rule !== undefined && matches(rule, disk));
}

function tooSmall(rootBytes: number, { layout, imageBytes = 0, leastRootBytes = 0 }: DiskQuestion): DiskRefusal[] {
  const swapBytes = (layout.swapMib ?? 0) * MIB + (layout.root?.mirror === undefined ? 0 : MIRROR_BYTES);
  const small = (what: string, needed: number): DiskRefusal[] => {
    const message = `${what} ${gib(needed)} (${String(needed)} bytes), the root has ${String(rootBytes)} bytes.`;
    return rootBytes >= needed ? [] : [{ role: 'root', reason: 'too-small', message }];
  };
  return [
    ...small('It must have', leastRootBytes),
    ...small('The image and its swap file need', imageBytes + swapBytes),
  ];
}

/** The root first, then its mirror and the data disks. The machine's own rule is of its root alone. */
export function diskRoles({ root, data }: DiskLayout, machineRule: DiskRule): DiskRole[] {
  return [
    { role: 'root', rule: root === undefined ? machineRule : both(machineRule, withoutMirror(root)) },
    ...(root?.mirror === undefined ? [] : [{ role: 'mirror', rule: root.mirror }]),
    ...data.map(({ disk }, index): DiskRole => {
      const rule = { ...disk, minBytes: Math.max(disk.minBytes, LEAST_DATA_BYTES) };
      return { role: `data${String(index + 1)}`, rule };
    }),
  ];
}

function withoutMirror({ mirror: _, ...rule }: RootDisk): DiskRule {
  return rule;
}

const MIB = 1024 ** 2;

/** Of the smaller disk: its end, where both keep off each other's size, and what the array knows of itself (`images/ramdisk/mirror.sh`). */
const MIRROR_BYTES = 4 * MIB;

/** Of less mkfs.xfs makes nothing, and nobody a disk of its own. */
const LEAST_DATA_BYTES = 1024 ** 3;

function matches(rule: DiskRule, { bytes, serial, type }: Disk): boolean {
  return (
    bytes >= rule.minBytes &&
    bytes <= (rule.maxBytes ?? bytes) &&
    serial === (rule.serial ?? serial) &&
    type === (rule.type ?? type)
  );
}

function both(one: DiskRule, other: DiskRule): DiskRule | undefined {
  const differ = (a: string | undefined, b: string | undefined) => a !== undefined && b !== undefined && a !== b;
  if (differ(one.serial, other.serial) || differ(one.type, other.type)) return undefined;
  const maxBytes = Math.min(one.maxBytes ?? Infinity, other.maxBytes ?? Infinity);
  return {
    ...one,
    ...other,
    minBytes: Math.max(one.minBytes, other.minBytes),
    ...(maxBytes === Infinity ? {} : { maxBytes }),
  };
}

function refusal({ role, rule }: DiskRole, others: number, matching: number, disks: readonly Disk[]): DiskRefusal {
  const has = `It has ${disks.map(diskText).join(', ') || 'none'}.`;
  if (rule === undefined) {
    return { role, reason: 'no-disk', message: `The machine's own rule and the flavor's can't both hold. ${has}` };
  }
  const asked = `It must have just one disk of ${ruleText(rule)}`;
  if (others > 0) return { role, reason: 'several-disks', message: `${asked}; ${String(others + 1)} match. ${has}` };
  if (matching > 0) return { role, reason: 'taken', message: `${asked} that has no other use. ${has}` };
  return { role, reason: 'no-disk', message: `${asked}; none matches. ${has}` };
}

/** Such as `ssd, 10 GiB or more`. */
function ruleText({ minBytes, maxBytes, serial, type }: DiskRule): string {
  const size = maxBytes === undefined ? `${gib(minBytes)} or more` : `${gib(minBytes)} to ${gib(maxBytes)}`;
  return [type ?? 'any type', size, ...(serial === undefined ? [] : [`serial ${serial}`])].join(', ');
}

function diskText({ name, bytes, type, serial }: Disk): string {
  return `${name} (${type}, ${gib(bytes)}${serial === '' ? '' : `, serial ${serial}`})`;
}

function gib(bytes: number): string {
  return `${String(Math.floor((bytes / 1024 ** 3) * 10) / 10)} GiB`;
}

function steps(
  layout: DiskLayout,
  { root: { name: root }, mirror, rootBytes: bytes }: { root: Disk; mirror?: Disk; rootBytes: number },
  data: readonly Disk[],
): DiskStep[] {
  return [
    { stage: 'image', does: 'write-image', disk: root, erases: true },
    { stage: 'grow', does: 'grow-root', disk: root, bytes, erases: false },
    ...(mirror === undefined
      ? []
      : [{ stage: 'grow', does: 'mirror-root', disk: mirror.name, of: root, bytes, erases: true } as const]),
    ...layout.data.flatMap((dataDisk, index): DiskStep[] => {
      const disk = data[index];
      return disk === undefined
        ? []
        : [{ stage: 'grow', does: 'make-file-system', disk: disk.name, dataDisk, erases: true }];
    }),
    ...(layout.swapMib === undefined
      ? []
      : [{ stage: 'grow', does: 'make-swap-file', disk: root, mib: layout.swapMib, erases: false } as const]),
  ];
}
