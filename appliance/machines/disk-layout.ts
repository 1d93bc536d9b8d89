import type { Disk, DiskLayout, DiskPlan, DiskRefusal, DiskRule } from '../../scheduler/disk-plan.ts';
import { planDisks, plainLayout } from '../../scheduler/disk-plan.ts';
import type { RootImage } from '../../scheduler/mirrored-image.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { FlavorRow, ImageRow, MachineRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';

/** A flavor's, or one disk as the machine's own rule says. Flavors in requests that are older than layouts have none. */
export function layoutOf({ layout }: Partial<Pick<FlavorRow, 'layout'>>): DiskLayout {
  return layout == null ? plainLayout : (JSON.parse(layout) as DiskLayout);
}

/** As far as an import has looked. Images in requests that are older than such looks say nothing of mdadm. */
export function rootImageOf(image: Pick<ImageRow, 'root_fs' | 'kernel_args'> & Partial<ImageRow>): RootImage {
  const { root_fs: rootFs, kernel_args: kernelArgs, has_mdadm } = image;
  return { rootFs, kernelArgs, hasMdadm: has_mdadm == null ? null : has_mdadm === 1 };
}

/** What would become of a machine's disks, as inspection saw them, for such a flavor and an image. */
export async function diskPlanOf(
  read: Reader,
  machine: Pick<MachineRow, 'id' | 'disk_rule'>,
  flavor: Pick<FlavorRow, 'layout' | 'disk_gib'>,
  { imageBytes, image }: { imageBytes: number; image?: RootImage | undefined },
): Promise<DiskPlan> {
  const disks: Disk[] = await read
    .selectFrom('machine_disks')
    .select(['name', 'bytes', 'type', 'serial'])
    .where('machine_id', '=', machine.id)
    .orderBy('name')
    .execute();
  const machineRule = JSON.parse(machine.disk_rule) as DiskRule;
  const [layout, leastRootBytes] = [layoutOf(flavor), flavor.disk_gib * GIB];
  return planDisks({ layout, machineRule, disks, imageBytes, image, leastRootBytes });
}

const GIB = 1024 ** 3;

/** Errors: `boot.disk-rule` for a plan that was refused, with each reason. */
export function requirePlan(machineId: string, plan: DiskPlan): void {
  if (plan.kind === 'plan') return;
  const reasons = plan.refusals.map(({ role, message }: DiskRefusal) => `${role}: ${message}`).join(' ');
  throw new RackstartError('boot.disk-rule', `The disks of machine ${machineId} do not suit the order. ${reasons}`);
}
