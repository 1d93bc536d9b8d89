import type { Millis } from '../kernel/clock.ts';
import { HOUR } from '../kernel/clock.ts';
import type { Reader } from '../store/store.ts';

/** A machine that was warmed: how long that took, from the decision until it waited. */
export interface Warmed {
  readonly regionId: string;
  readonly model: string | null;
  readonly milliseconds: Millis;
}

/** How far back, and how many at most: hardware and ramdisks change. */
const KEPT: Millis = 30 * 24 * HOUR;
const NEWEST = 2_000;

/** The warm-ups that came to their end, the newest first. One that was called off, or failed, says nothing of how long they take. */
export async function warmUps(read: Reader, now: Millis): Promise<readonly Warmed[]> {
  const rows = await read
    .selectFrom('sagas')
    .innerJoin('machines', 'machines.id', 'sagas.subject')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .select(['racks.region_id', 'machines.model', 'sagas.created_at', 'sagas.ended_at'])
    .where('sagas.name', '=', 'warm')
    .where('sagas.state', '=', 'completed')
    .where('sagas.ended_at', '>', now - KEPT)
    .orderBy('sagas.ended_at', 'desc')
    .limit(NEWEST)
    .execute();
  return rows.map(({ region_id, model, created_at, ended_at }) => {
    return { regionId: region_id, model, milliseconds: Math.max(0, (ended_at ?? created_at) - created_at) };
  });
}
