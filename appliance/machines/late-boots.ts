import { setImmediate as nextTurn } from 'node:timers/promises';

import type { Deadline } from '../../scheduler/deadline.ts';
import { nearestRank } from '../../scheduler/nearest-rank.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Reader } from '../store/store.ts';
import type { BootDeadlines, HardwareKind, WatchedStage } from './boot-deadlines.ts';
import { watchedStages } from './boot-deadlines.ts';

/** Which boots are meant: those that were given up since, and, where named, on machines of this region and hardware. */
export interface LateFilter {
  readonly since: Millis;
  readonly regionId?: string;
  readonly model?: string;
  readonly firmware?: 'bios' | 'uefi';
}

/** How long boots that were given up had stood still until that was noticed. */
export interface NoticedAfter {
  readonly boots: number;
  readonly p50: Millis;
  readonly p99: Millis;
}

/** What a stage may take on hardware of a kind, and how long those were missed that died in it. */
export interface StageWatch extends HardwareKind {
  readonly stage: WatchedStage;
  readonly allowed: Deadline;
  /** Undefined when none died there. */
  readonly noticed: NoticedAfter | undefined;
}

/** By stage, in the order of a boot; a stage in which none was late is not there. */
export async function noticedByStage(
  read: Reader,
  filter: LateFilter,
): Promise<ReadonlyMap<WatchedStage, NoticedAfter>> {
  const rows = Map.groupBy(await lateBoots(read, filter), ({ stage }) => stage);
  return new Map(
    watchedStages.flatMap((stage) => {
      const late = rows.get(stage);
      return late === undefined ? [] : [[stage, noticed(late)] as const];
    }),
  );
}

/** Of every kind of hardware that there is, the stages that something is known of. */
export async function stageWatches(
  read: Reader,
  deadlines: Pick<BootDeadlines, 'of'>,
  filter: LateFilter,
): Promise<StageWatch[]> {
  const late = Map.groupBy(await lateBoots(read, filter), ({ model, firmware, stage }) =>
    keyOf(model, firmware, stage),
  );
  const watches: StageWatch[] = [];
  for (const { model, firmware } of await kindsOf(read, filter)) {
    // SQLite answers while everybody else waits: others have a turn between.
    await nextTurn();
    for (const stage of watchedStages) {
      const allowed = await deadlines.of({ model, firmware }, stage);
      const died = late.get(keyOf(model, firmware, stage));
      if (allowed.samples === 0 && died === undefined) continue;
      watches.push({ model, firmware, stage, allowed, noticed: died && noticed(died) });
    }
  }
  return watches;
}

interface LateRow extends HardwareKind {
  readonly stage: string;
  readonly milliseconds: Millis;
}

/** The soonest noticed first. */
function lateBoots(read: Reader, { since, regionId, model, firmware }: LateFilter): Promise<LateRow[]> {
  let query = read
    .selectFrom('stage_times')
    .select(['stage_times.model', 'stage_times.firmware', 'stage', 'milliseconds'])
    .where('outcome', '=', 'late')
    .where('ended_at', '>', since);
  if (regionId !== undefined) query = query.where('machine_id', 'in', machinesIn(read, regionId));
  if (model !== undefined) query = query.where('model', '=', model);
  if (firmware !== undefined) query = query.where('firmware', '=', firmware);
  return query.orderBy('milliseconds').execute();
}

function kindsOf(read: Reader, { regionId, model, firmware }: LateFilter): Promise<HardwareKind[]> {
  let query = read.selectFrom('machines').select(['model', 'firmware']).distinct();
  if (regionId !== undefined) query = query.where('id', 'in', machinesIn(read, regionId));
  if (model !== undefined) query = query.where('model', '=', model);
  if (firmware !== undefined) query = query.where('firmware', '=', firmware);
  return query.orderBy('model').orderBy('firmware').execute();
}

function machinesIn(read: Reader, regionId: string) {
  return read
    .selectFrom('machines')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .select('machines.id')
    .where('racks.region_id', '=', regionId);
}

function noticed(rows: readonly LateRow[]): NoticedAfter {
  const sorted = rows.map(({ milliseconds }) => milliseconds);
  return { boots: sorted.length, p50: nearestRank(sorted, 0.5), p99: nearestRank(sorted, 0.99) };
}

function keyOf(...names: (string | null)[]): string {
  return JSON.stringify(names);
}
