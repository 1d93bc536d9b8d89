import type { OrderLines } from '../../pxe/boot-plan.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Boot } from './boot-records.ts';
import type { InstallPlan } from './install-plan.ts';

/** An order as the ramdisk reads it. Errors: `internal` when a value can't be a line. */
export function orderLines(boot: Boot, plan: InstallPlan | undefined, imagesUrl: string): OrderLines {
  const lines = {
    verb: boot.order.verb,
    generation: String(boot.generation),
    ...(plan === undefined ? {} : installLines(plan, imagesUrl)),
  };
  for (const [key, value] of Object.entries(lines)) {
    if (/[\x00-\x1f\x7f]/.test(value)) throw new RackstartError('internal', `The order's ${key} can't be one line.`);
  }
  return lines;
}

function installLines({ image, disk }: InstallPlan, imagesUrl: string): Record<string, string> {
  return {
    image_url: `${imagesUrl}/${image.sha256}`,
    image_sha256: image.sha256,
    image_bytes: String(image.bytes),
    image_raw_bytes: String(image.rawBytes),
    root_partition: String(image.rootPartition),
    root_fs: image.rootFs,
    kernel_args: image.kernelArgs,
    disk_min_bytes: String(disk.minBytes),
    ...(disk.maxBytes === undefined ? {} : { disk_max_bytes: String(disk.maxBytes) }),
    ...(disk.serial === undefined ? {} : { disk_serial: disk.serial }),
    ...(disk.type === undefined ? {} : { disk_type: disk.type }),
  };
}
