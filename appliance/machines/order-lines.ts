import type { OrderLines } from '../../pxe/boot-plan.ts';
import type { DiskLayout, DiskRule } from '../../scheduler/disk-plan.ts';
import { diskRoles, plainLayout } from '../../scheduler/disk-plan.ts';
import { SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Boot } from './boot-records.ts';
import type { ImageAhead } from './image-ahead.ts';
import type { InstallPlan } from './install-plan.ts';

/** What an order says beside its verb, as its verb has it. */
export interface OrderDetails {
  /** Of an install. */
  readonly plan?: InstallPlan | undefined;
  /** Of one to wait. */
  readonly ahead?: ImageAhead | undefined;
  readonly imagesUrl: string;
  readonly wipeSeed: string;
}

/** An order as the ramdisk reads it. Errors: `internal` when a value can't be a line. */
export function orderLines(boot: Boot, { plan, ahead, imagesUrl, wipeSeed }: OrderDetails): OrderLines {
  const { verb } = boot.order;
  const lines = {
    verb,
    generation: String(boot.generation),
    // One that is to wait is inspected and checked first.
    ...(verb === 'inspect' || verb === 'wait' ? { check_memory_mib: String(CHECKED_MEMORY_MIB) } : {}),
    ...(verb === 'wipe' ? { wipe_seed: wipeSeed } : {}),
    ...(plan === undefined ? {} : installLines(plan, imagesUrl)),
    ...(ahead === undefined ? {} : { ...imageLines(ahead.image, imagesUrl), ...diskLines(plainLayout, ahead.disk) }),
    ...(boot.handoff === 'reset' ? { handoff: 'reset' } : {}),
    ...(verb === 'install' && boot.watchdog !== null ? { watchdog: String(boot.watchdog / SECOND) } : {}),
  };
  for (const [key, value] of Object.entries(lines)) {
    if (/[\x00-\x1f\x7f]/.test(value)) throw new RackstartError('internal', `The order's ${key} can't be one line.`);
  }
  return lines;
}

/** What a check writes and reads back of a machine's memory; the ramdisk takes less of a small one. Two to six seconds of work. */
const CHECKED_MEMORY_MIB = 1024;

function installLines({ image, disk, layout = plainLayout }: InstallPlan, imagesUrl: string): Record<string, string> {
  return {
    ...imageLines(image, imagesUrl),
    root_partition: String(image.rootPartition),
    root_fs: image.rootFs,
    kernel_args: image.kernelArgs,
    ...diskLines(layout, disk),
  };
}

/** Each role's rule under a prefix of its own: `disk_` is the root's, `data1_` that of the first data disk. */
function diskLines(layout: DiskLayout, machineRule: DiskRule): Record<string, string> {
  const { data, swapMib } = layout;
  const roles = diskRoles(layout, machineRule);
  const rules = roles.flatMap(({ role, rule }) => ruleLines(role === 'root' ? 'disk' : role, rule));
  const uses = data.flatMap(({ fs, label, mount }, index) =>
    Object.entries({ fs, label, mount }).map(([name, value]) => [`data${String(index + 1)}_${name}`, value]),
  );
  return Object.fromEntries([
    ...rules,
    ...(data.length === 0 ? [] : [['data_disks', String(data.length)]]),
    ...uses,
    ...(swapMib === undefined ? [] : [['swap_mib', String(swapMib)]]),
  ]) as Record<string, string>;
}

function ruleLines(prefix: string, rule: DiskRule | undefined): [string, string][] {
  // A plan with such a rule is refused before it is frozen.
  if (rule === undefined) throw new RackstartError('internal', `The order's ${prefix} can be no disk.`);
  const { minBytes, maxBytes, serial, type } = rule;
  return Object.entries({ min_bytes: minBytes, max_bytes: maxBytes, serial, type }).flatMap(([name, value]) =>
    value === undefined ? [] : [[`${prefix}_${name}`, String(value)]],
  );
}

/** What the ramdisk goes by: the map, and where the chunks that it names are. */
function imageLines({ sha256, mapBytes, rawBytes }: ImageAhead['image'], imagesUrl: string): Record<string, string> {
  return {
    image_map_url: `${imagesUrl}/image/${sha256}/map`,
    image_map_sha256: sha256,
    image_map_bytes: String(mapBytes),
    image_raw_bytes: String(rawBytes),
    chunk_url: `${imagesUrl}/chunk`,
  };
}
