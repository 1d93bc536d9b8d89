import { sql } from 'kysely';

import type { FairnessLimits, Turns, WaitingTenant } from '../../scheduler/fairness.ts';
import { takeTurns } from '../../scheduler/fairness.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Reader, Store, Tx } from '../store/store.ts';
import { awaitsInput } from './awaiting-input.ts';
import { inFlightStates } from './request-states.ts';

// A request is in the queue from when it is ready until its turn; `requests_in_queue` is the index of just that.
const inQueue = sql`state = 'queued' and ready_at is not null and dispatched_at is null and ended_at is null`;
const inFlight = sql`state in (${sql.join(inFlightStates.map((state) => sql.lit(state)))}) and ended_at is null
  and not ${awaitsInput}`;

/** Whether any request waits for its turn: one look at an index. */
export async function anyWaits(read: Reader): Promise<boolean> {
  const waiting = read
    .selectFrom('requests')
    .select('id')
    .where(sql<boolean>`${inQueue}`)
    // In the order of `requests_in_queue`: in another index PostgreSQL would go through all that were ever queued since its last vacuum.
    .orderBy('tenant_id')
    .orderBy('created_at')
    .orderBy('id');
  return (await waiting.limit(1).executeTakeFirst()) !== undefined;
}

/** Of all tenants, and of one of them. */
export function countInFlight(read: Reader, tenantId = ''): Promise<{ all: number; ofTenant: number }> {
  return read
    .selectFrom('requests')
    .select(({ fn }) => fn.countAll<number>().as('all'))
    .select(({ fn }) => fn.countAll<number>().filterWhere('tenant_id', '=', tenantId).as('ofTenant'))
    .where(sql<boolean>`${inFlight}`)
    .executeTakeFirstOrThrow();
}

/** A request is in the queue from now on. */
export async function enqueue(tx: Tx, requestId: string, at: Millis): Promise<void> {
  await tx.updateTable('requests').set({ ready_at: at }).where('id', '=', requestId).execute();
}

/** Whose turn it is now, and why others have to wait. */
export async function nextTurns(read: Reader, dialect: Store['dialect'], limits: FairnessLimits): Promise<Turns> {
  const { all: total } = await countInFlight(read);
  const waiting = total < limits.inAll ? await waitingTenants(read, dialect, limits) : [];
  return takeTurns(waiting, { inFlight: total, limits });
}

/**
 * Every tenant in the queue with its oldest requests. It goes from tenant to tenant by the index, so that it reads a few rows
 * a tenant, however many each has queued.
 */
async function waitingTenants(
  read: Reader,
  dialect: Store['dialect'],
  { perTenant }: FairnessLimits,
): Promise<WaitingTenant[]> {
  const list = sql.raw(dialect === 'postgres' ? 'json_agg' : 'json_group_array');
  const rows = await read
    .selectFrom(
      sql<Omit<WaitingTenant, 'requests' | 'lastTurn'> & { lastTurn: number | null; requests: string }>`(
        with recursive tenant (id) as (
          select min(tenant_id) from requests where ${inQueue}
          union all
          select (select min(tenant_id) from requests where ${inQueue} and tenant_id > tenant.id)
          from tenant where tenant.id is not null
        )
        select tenant.id as "tenantId",
          (select count(*) from requests where tenant_id = tenant.id and ${inFlight}) as "inFlight",
          (select max(dispatched_at) from requests
            where tenant_id = tenant.id and dispatched_at is not null) as "lastTurn",
          (select cast(${list}(id) as text) from (
            select requests.id from requests where tenant_id = tenant.id and ${inQueue}
            order by created_at, requests.id limit ${sql.lit(perTenant)}
          ) as oldest) as requests
        from tenant where tenant.id is not null
      )`.as('waiting'),
    )
    .selectAll()
    .execute();
  return rows.map(({ tenantId, inFlight: running, lastTurn, requests }) => {
    return {
      tenantId,
      inFlight: running,
      lastTurn: lastTurn ?? undefined,
      requests: JSON.parse(requests) as string[],
    };
  });
}

/**
 * Whoever gives turns does it alone: with READ COMMITTED, two who count at once would both see room for one. True once the
 * rest of the transaction sees what others have given; with `wait: false` also when somebody is at it: false then.
 */
export async function lockTurns(tx: Tx, dialect: Store['dialect'], { wait }: { wait: boolean }): Promise<boolean> {
  // SQLite's transactions take turns anyway.
  if (dialect === 'sqlite') return true;
  if (wait) {
    await sql`select pg_advisory_xact_lock(${sql.lit(TURNS_LOCK)})`.execute(tx);
    return true;
  }
  const { rows } = await sql<{
    taken: boolean;
  }>`select pg_try_advisory_xact_lock(${sql.lit(TURNS_LOCK)}) as taken`.execute(tx);
  return rows[0]?.taken === true;
}

const TURNS_LOCK = 7_237_737_802;
