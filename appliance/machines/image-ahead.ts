import type { DiskRule } from '../../scheduler/disk-plan.ts';
import type { BootOrderRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import type { InstallPlan } from './install-plan.ts';

/** What is written while a machine waits: of an image all but what would make the disk bootable, to the machine's root. */
export interface ImageAhead {
  readonly image: Pick<InstallPlan['image'], 'sha256' | 'mapBytes' | 'rawBytes'>;
  /** The machine's own rule of its root. */
  readonly disk: DiskRule;
}

/** Undefined when its order names no image, or one that was deleted since. */
export async function imageAhead(
  read: Reader,
  { machine_id, image_id }: Pick<BootOrderRow, 'machine_id' | 'image_id'>,
): Promise<ImageAhead | undefined> {
  if (image_id === null) return undefined;
  const { disk_rule } = await read
    .selectFrom('machines')
    .select('disk_rule')
    .where('id', '=', machine_id)
    .executeTakeFirstOrThrow();
  const image = await read
    .selectFrom('images')
    .select(['sha256', 'map_bytes as mapBytes', 'raw_bytes as rawBytes'])
    .where('id', '=', image_id)
    .where('deleted_at', 'is', null)
    .executeTakeFirst();
  return image && { image, disk: JSON.parse(disk_rule) as DiskRule };
}
