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
    ...imageLines(image, imagesUrl),
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

/** What the ramdisk goes by: a map of chunks, or one compressed file. The rest of a frozen image is at the same server. */
function imageLines({ sha256, bytes, mapBytes }: InstallPlan['image'], imagesUrl: string): Record<string, string> {
  if (mapBytes === undefined) {
    return { image_url: `${imagesUrl}/${sha256}`, image_sha256: sha256, image_bytes: String(bytes) };
  }
  return {
    image_map_url: new URL(`/image/${sha256}/map`, imagesUrl).href,
    image_map_sha256: sha256,
    image_map_bytes: String(mapBytes),
    chunk_url: new URL('/chunk', imagesUrl).href,
  };
}
