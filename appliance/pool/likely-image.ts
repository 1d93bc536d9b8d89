import { HOUR } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Reader } from '../store/store.ts';
import { poolMembers } from './pool-members.ts';

/** Long enough for a flavor that is ordered now and then, short enough for what people order now. */
const LOOKED_BACK: Millis = 30 * 24 * HOUR;

/**
 * The image that a machine's next order is likely to be for: of those that are everyone's, the newest version of what was ordered
 * most often of its flavor in its region over the last 30 days. A tenant's own is never that: what is written before there is an order
 * may stay on the disk of another's. Undefined when nothing was ordered.
 */
export async function likelyImage(read: Reader, machineId: string, now: Millis): Promise<string | undefined> {
  const [pool] = await poolMembers(read, machineId);
  if (pool === undefined) return undefined;
  const likely = await read
    .selectFrom('requests')
    .innerJoin('images', 'images.id', 'requests.image_id')
    .select('images.name')
    .where('requests.region_id', '=', pool.regionId)
    .where('requests.flavor_id', '=', pool.flavorId)
    .where('requests.provider', '=', 'bare-metal')
    .where('requests.created_at', '>=', now - LOOKED_BACK)
    .where('images.tenant_id', 'is', null)
    .groupBy('images.name')
    .orderBy((eb) => eb.fn.countAll(), 'desc')
    .orderBy((eb) => eb.fn.max('requests.created_at'), 'desc')
    .limit(1)
    .executeTakeFirst();
  if (likely === undefined) return undefined;
  const newest = await read
    .selectFrom('images')
    .select('id')
    .where('name', '=', likely.name)
    .where('tenant_id', 'is', null)
    .where('deprecated_at', 'is', null)
    .where('deleted_at', 'is', null)
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst();
  return newest?.id;
}
