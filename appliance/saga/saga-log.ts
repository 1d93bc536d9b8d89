import { sql } from 'kysely';
import type { Expression, ExpressionBuilder, SqlBool } from 'kysely';

import type { Cursor } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Database, SagaRow, SagaStepRow, SagaWaitRow } from '../store/schema.ts';
import type { Reader, Store, Tx } from '../store/store.ts';
import type { Reason, WaitFor } from './step.ts';

/**
 * The log of a saga is its state: one operation a function. Those that take a `Lease` are an owner's; each of its
 * transactions begins with `fence`. What only writes, and gives nothing to wait for, is deferred to the commit.
 */
export interface Lease {
  readonly sagaId: string;
  readonly owner: string;
  readonly epoch: number;
}

// — What anybody may do —

export interface NewSaga {
  id: string;
  name: string;
  version: number;
  subject: string;
  tenantId: string | undefined;
  params: unknown;
  now: Millis;
  wakeAt: Millis;
}

export function insertSaga(tx: Tx, { id, name, version, subject, tenantId, params, now, wakeAt }: NewSaga): void {
  const start = {
    state: 'running',
    owner: null,
    epoch: 0,
    lease_expires_at: 0,
    wake_at: wakeAt,
    created_at: now,
  } as const;
  const about = { id, name, version, subject, tenant_id: tenantId ?? null, params: JSON.stringify(params) };
  tx.defer(tx.insertInto('sagas').values({ ...start, ...about, reason: null, ended_at: null }));
}

/** False when it is on its way back, or has been told to. */
export async function noteReason(tx: Tx, sagaId: string, reason: Reason, now: Millis): Promise<boolean> {
  const noted = await tx
    .updateTable('sagas')
    .set({ reason: JSON.stringify(reason), wake_at: now })
    .where('id', '=', sagaId)
    .where('state', 'in', ['running', 'completed'])
    .where('reason', 'is', null)
    .executeTakeFirst();
  return noted.numUpdatedRows > 0n;
}

/** Locks a saga that goes forward. Its parameters; undefined when it has ended, or is to turn back. */
export async function hold(tx: Tx, sagaId: string): Promise<unknown> {
  const saga = await tx
    .updateTable('sagas')
    .set((eb) => ({ state: eb.ref('state') }))
    .where('id', '=', sagaId)
    .where('state', '=', 'running')
    .where('reason', 'is', null)
    .returning('params')
    .executeTakeFirst();
  return saga && (JSON.parse(saga.params) as unknown);
}

/** Lets a stuck saga go on, its stuck steps in the given state. False when it isn't stuck. */
export async function unstick(tx: Tx, sagaId: string, step: 'undoing' | 'skipped', now: Millis): Promise<boolean> {
  const saga = await tx
    .updateTable('sagas')
    .set({ state: 'undoing', wake_at: now })
    .where('id', '=', sagaId)
    .where('state', '=', 'stuck')
    .executeTakeFirst();
  if (saga.numUpdatedRows === 0n) return false;
  await tx
    .updateTable('saga_steps')
    .set({ state: step, tries: 1, recheck_at: null, ended_at: step === 'skipped' ? now : null })
    .where('saga_id', '=', sagaId)
    .where('state', '=', 'stuck')
    .execute();
  return true;
}

/** Makes sleeping sagas due. */
export async function wake(tx: Tx, sagaIds: readonly string[], now: Millis): Promise<void> {
  await tx.updateTable('sagas').set({ wake_at: now }).where('id', 'in', sagaIds).where('wake_at', '>', now).execute();
}

/** The sagas that wait for something that has come between two positions. */
export async function sagasWaitingFor(
  read: Reader,
  { after, until }: { after: Cursor; until: Cursor },
): Promise<string[]> {
  const rows = await read
    .selectFrom('events')
    // SQLite takes tables that are joined crosswise in this order: from a few events to who waits, not from all who wait.
    .crossJoin('saga_waits as wait')
    .select('wait.saga_id')
    .distinct()
    .where('events.position', '>', after)
    .where('events.position', '<=', until)
    .whereRef('wait.key', '=', 'events.key')
    .whereRef('wait.type', '=', 'events.type')
    .whereRef('wait.since', '<', 'events.position')
    .execute();
  return rows.map(({ saga_id }) => saga_id);
}

/** The waits that are over, of one saga or, for a runner that has just started, of all. */
export function pastWaits(read: Reader, sagaId?: string): Promise<Omit<SagaWaitRow, 'since'>[]> {
  return read
    .selectFrom('saga_waits as wait')
    .select(['wait.saga_id', 'wait.step', 'wait.type', 'wait.key'])
    .$if(sagaId !== undefined, (query) => query.where('wait.saga_id', '=', sagaId ?? ''))
    .where((where) =>
      where.exists(
        where
          .selectFrom('events')
          .select('events.id')
          .whereRef('events.key', '=', 'wait.key')
          .whereRef('events.type', '=', 'wait.type')
          .whereRef('events.position', '>', 'wait.since'),
      ),
    )
    .execute();
}

// — Leases —

export interface ClaimOptions {
  owner: string;
  now: Millis;
  until: Millis;
  limit: number;
  /** The sagas the owner has a plan for. */
  plans: readonly { name: string; version: number }[];
  /** What the owner still works on, though its lease may have expired: never two at once. */
  except: readonly string[];
}

/** When the next two sagas are due that could be claimed then; not after `now` when they can be claimed at once. */
export async function nextDue(
  read: Reader,
  dialect: Store['dialect'],
  options: Pick<ClaimOptions, 'now' | 'plans' | 'except'>,
): Promise<Millis[]> {
  const rows = await read
    .selectFrom('sagas')
    .select('wake_at')
    .where('wake_at', 'is not', null)
    .where(isFree(dialect, options))
    .orderBy('wake_at')
    .limit(2)
    .execute();
  return rows.map(({ wake_at }) => wake_at ?? Infinity);
}

/**
 * Leases due sagas, the longest due first. Two owners that choose the same row: the second one's condition fails. Where rows
 * can be locked one by one (PostgreSQL), owners that choose at the same time choose different ones.
 */
export async function claimDue(
  tx: Tx,
  dialect: Store['dialect'],
  { owner, until, limit, ...options }: ClaimOptions,
): Promise<SagaRow[]> {
  const free = isFree(dialect, options);
  const due = tx.selectFrom('sagas').select('id').where('wake_at', '<=', options.now).where(free);
  const first = due.orderBy('wake_at').limit(limit);
  const chosen = dialect === 'postgres' ? first.forUpdate().skipLocked() : first;
  return tx
    .updateTable('sagas')
    .set((row) => ({ owner, epoch: row('epoch', '+', 1), lease_expires_at: until }))
    .where('id', 'in', chosen)
    .where('wake_at', '<=', options.now)
    .where(free)
    .returningAll()
    .execute();
}

/** Whether nobody works on it, as far as leases tell, and the owner could. */
function isFree(
  dialect: Store['dialect'],
  { now, plans, except }: Pick<ClaimOptions, 'now' | 'plans' | 'except'>,
): (where: ExpressionBuilder<Database, 'sagas'>) => Expression<SqlBool> {
  const known = plans.map(({ name, version }) => `${name} ${String(version)}`);
  const plan = sql`name || ' ' || version`;
  // One parameter, however many they are: the same statement each time, which is prepared. Nothing here looks rare to PostgreSQL
  // where it has no statistics yet, as `owner is null` and each name would: then it would read the whole table instead of the first
  // of `sagas_due`, 3 ms of a thousand sagas.
  const [isPlanned, isAnothers] =
    dialect === 'postgres'
      ? [
          sql<boolean>`array_position(${known}::text[], ${plan}) is not null`,
          sql<boolean>`id <> all(${except}::text[])`,
        ]
      : [sql<boolean>`${plan} in ${listOf(known)}`, sql<boolean>`id not in ${listOf(except)}`];
  // A lease that was given back ends at 0.
  return (where) => where.and([where('lease_expires_at', '<=', now), isPlanned, isAnothers]);
}

function listOf(values: readonly string[]): Expression<unknown> {
  return sql`(select value from json_each(${JSON.stringify(values)}))`;
}

export interface Renewed {
  id: string;
  /** Set when the saga shall turn back. */
  reason: string | null;
}

/** Those that are still the owner's. */
export function renewLeases(tx: Tx, leases: readonly Lease[], until: Millis): Promise<Renewed[]> {
  return tx
    .updateTable('sagas')
    .set({ lease_expires_at: until })
    .where((where) => where.or(leases.map(({ sagaId, owner, epoch }) => where.and({ id: sagaId, owner, epoch }))))
    .returning(['id', 'reason'])
    .execute();
}

/** Frees every lease: for the only owner there is, when it starts. */
export async function freeAllLeases(tx: Tx): Promise<void> {
  await tx.updateTable('sagas').set({ owner: null, lease_expires_at: 0 }).where('owner', 'is not', null).execute();
}

/** Gives the row back; it is due at `wakeAt`, never again when that is null. What else becomes true with it is `change`. */
export function release(tx: Tx, { sagaId }: Lease, wakeAt: Millis | null, change: SagaChange = {}): void {
  const given = { ...change, owner: null, lease_expires_at: 0, wake_at: wakeAt };
  tx.defer(tx.updateTable('sagas').set(given).where('id', '=', sagaId));
}

/** Ends leases that are still the owner's, as if they had run out: for one that knows that nobody works under them. */
export async function endLeases(tx: Tx, leases: readonly Lease[]): Promise<void> {
  await tx
    .updateTable('sagas')
    .set({ owner: null, lease_expires_at: 0 })
    .where((where) => where.or(leases.map(({ sagaId, owner, epoch }) => where.and({ id: sagaId, owner, epoch }))))
    .execute();
}

/** The plans that unfinished sagas were started with. */
export function plansInUse(read: Reader): Promise<{ name: string; version: number }[]> {
  return read.selectFrom('sagas').select(['name', 'version']).distinct().where('wake_at', 'is not', null).execute();
}

// — What the owner of a lease does, in transactions that begin with `fence` —

/**
 * Locks the row for the rest of the transaction and extends the lease; fails with `saga.fenced` when it isn't the
 * owner's any more. Returns why the saga shall turn back, if it shall.
 */
export async function fence(tx: Tx, { sagaId, owner, epoch }: Lease, until: Millis): Promise<Reason | undefined> {
  const row = await tx
    .updateTable('sagas')
    .set({ lease_expires_at: until })
    .where('id', '=', sagaId)
    .where('owner', '=', owner)
    .where('epoch', '=', epoch)
    .returning('reason')
    .executeTakeFirst();
  if (row === undefined) throw new RackstartError('saga.fenced', `${owner} lost saga ${sagaId} after epoch ${epoch}`);
  return row.reason === null ? undefined : (JSON.parse(row.reason) as Reason);
}

export async function reasonOf(read: Reader, sagaId: string): Promise<string | null> {
  const row = await read.selectFrom('sagas').select('reason').where('id', '=', sagaId).executeTakeFirst();
  return row?.reason ?? null;
}

export function stepsOf(read: Reader, sagaId: string): Promise<SagaStepRow[]> {
  return read.selectFrom('saga_steps').selectAll().where('saga_id', '=', sagaId).orderBy('ordinal').execute();
}

export function waitsOf(read: Reader, sagaId: string): Promise<SagaWaitRow[]> {
  return read.selectFrom('saga_waits').selectAll().where('saga_id', '=', sagaId).execute();
}

export interface NewStep {
  sagaId: string;
  name: string;
  ordinal: number;
  tenantId: string | undefined;
  now: Millis;
}

export function insertStep(tx: Tx, { sagaId, name, ordinal, tenantId, now }: NewStep): SagaStepRow {
  const start = { state: 'started', tries: 1, output: null, error: null, forward: null } as const;
  const times = { recheck_at: null, started_at: now, ended_at: null };
  const row = { saga_id: sagaId, name, ordinal, tenant_id: tenantId ?? null, ...start, ...times };
  tx.defer(tx.insertInto('saga_steps').values(row));
  return row;
}

export type StepChange = Partial<
  Pick<SagaStepRow, 'state' | 'tries' | 'output' | 'error' | 'recheck_at' | 'forward' | 'started_at' | 'ended_at'>
>;

export function setStep(tx: Tx, sagaId: string, name: string, change: StepChange): void {
  tx.defer(tx.updateTable('saga_steps').set(change).where('saga_id', '=', sagaId).where('name', '=', name));
}

/** What the step waits for from now on; it waits for nothing else. */
export async function replaceWaits(tx: Tx, sagaId: string, step: string, waits: readonly WaitFor[]): Promise<void> {
  await tx.deleteFrom('saga_waits').where('saga_id', '=', sagaId).where('step', '=', step).execute();
  if (waits.length === 0) return;
  await tx
    .insertInto('saga_waits')
    .values(waits.map(({ type, key, since }) => ({ saga_id: sagaId, step, type, key, since })))
    .execute();
}

export async function deleteWaits(tx: Tx, sagaId: string): Promise<void> {
  await tx.deleteFrom('saga_waits').where('saga_id', '=', sagaId).execute();
}

export type SagaChange = Partial<Pick<SagaRow, 'state' | 'reason' | 'ended_at'>>;

export async function setSaga(tx: Tx, sagaId: string, change: SagaChange): Promise<void> {
  await tx.updateTable('sagas').set(change).where('id', '=', sagaId).execute();
}
