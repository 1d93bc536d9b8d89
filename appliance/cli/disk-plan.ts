import type { Command } from 'commander';

import { integer } from './arguments.ts';
import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf } from './remote.ts';
import { factsText } from './server-text.ts';
import { megabytes, table } from './text.ts';

interface DiskPlan {
  readonly machine: string;
  readonly flavor: string;
  readonly possible: boolean;
  readonly refusals: readonly { role: string; reason: string; message: string }[];
  readonly steps: readonly { stage: string; does: string; disk: string; erases: boolean; details: object }[];
  readonly erased: readonly PlannedDisk[];
  readonly untouched: readonly PlannedDisk[];
}

interface PlannedDisk {
  readonly name: string;
  readonly bytes: number;
  readonly type: string;
  readonly serial: string;
}

interface DiskPlanOptions {
  readonly flavor: string;
  readonly image?: string;
  readonly imageBytes?: number;
}

/** `machine disk-plan`: a dry run, which changes nothing. */
export function diskPlanCommand(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('disk-plan <machine>')
      .description('what an order would do to the disks of a machine, and what it would erase; nothing is done')
      .requiredOption('--flavor <name>')
      .option('--image <name>', 'NAME or NAME:VERSION')
      .option('--image-bytes <number>', 'what an image needs on the disk that is not here yet', integer),
  ).action(async (nameOrId: string, options: RemoteOptions & DiskPlanOptions) => {
    const { api, answer } = await connect(context, options);
    const query = new URLSearchParams({ flavor: options.flavor });
    if (options.image !== undefined) query.set('image', options.image);
    if (options.imageBytes !== undefined) query.set('imageBytes', String(options.imageBytes));
    const path = `/machines/${await idOf(api, 'machines', nameOrId)}/disk-plan?${query.toString()}`;
    const plan = (await api.get(path)) as DiskPlan;
    answer(plan, planText(plan));
  });
}

function planText({ machine, flavor, possible, refusals, steps, erased, untouched }: DiskPlan): string {
  if (!possible) {
    const rows = refusals.map(({ role, reason, message }) => [role, reason, message]);
    return `${machine} can't be a ${flavor}:\n${table(['disk for', 'reason', 'why'], rows)}`;
  }
  const stepRows = steps.map(({ stage, does, disk, erases, details }) => {
    return [stage, does, disk, erases ? 'all of it' : '', factsText(details as Record<string, unknown>)];
  });
  const fates = [
    ...erased.map((disk) => ['erased', disk] as const),
    ...untouched.map((disk) => ['untouched', disk] as const),
  ];
  const diskRows = fates.map(([fate, { name, bytes, type, serial }]) => [name, megabytes(bytes), type, serial, fate]);
  return [
    table(['stage', 'step', 'disk', 'erases', 'details'], stepRows),
    table(['disk', 'size', 'type', 'serial', 'is'], diskRows),
  ].join('\n');
}
