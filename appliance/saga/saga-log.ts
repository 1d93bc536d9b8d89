import type { ExpressionBuilder } from 'kysely';

import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Database, SagaRow, SagaStepRow, SagaWaitRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import type { Reason, WaitFor } from './step.ts';

/**
 * The log of a saga is its state: one operation a function. Those that take a `Lease` are an owner's; each of its
 * transactions begins with `fence`.
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

export async function insertSaga(
  tx: Tx,
  { id, name, version, subject, tenantId, params, now, wakeAt }: NewSaga,
): Promise<void> {
  const start = {
    state: 'running',
    owner: null,
    epoch: 0,
    lease_expires_at: 0,
    wake_at: wakeAt,
    created_at: now,
  } as const;
  await tx
    .insertInto('sagas')
    .values({
      ...start,
      id,
      name,
      version,
      subject,
      tenant_id: tenantId ?? null,
      params: JSON.stringify(params),
      reason: null,
      ended_at: null,
    })
    .execute();
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

/** The sagas that wait for something of this type and key that has come by now. */
export async function sagasWaitingFor(
  read: Reader,
  events: readonly { type: string; key: string; position: number }[],
): Promise<string[]> {
  if (events.length === 0) return [];
  const rows = await read
    .selectFrom('saga_waits')
    .select('saga_id')
    .distinct()
    .where((where) =>
      where.or(events.map(({ type, key, position }) => where.and({ type, key }).and(where('since', '<', position)))),
    )
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

/** Whether there is something to claim. */
export async function anyDue(read: Reader, { now, plans, except }: ClaimOptions): Promise<boolean> {
  const row = await read
    .selectFrom('sagas')
    .select('id')
    .where(isDue({ now, plans, except }))
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/**
 * Leases due sagas, the longest due first. Two owners that choose the same row: the second one's condition fails. Where rows
 * can be locked one by one (PostgreSQL), owners that choose at the same time choose different ones.
 */
export async function claimDue(
  tx: Tx,
  { owner, now, until, limit, plans, except }: ClaimOptions,
  { skipLocked = false }: { skipLocked?: boolean } = {},
): Promise<SagaRow[]> {
  const due = isDue({ now, plans, except });
  const first = tx.selectFrom('sagas').select('id').where(due).orderBy('wake_at').limit(limit);
  const chosen = skipLocked ? first.forUpdate().skipLocked() : first;
  return tx
    .updateTable('sagas')
    .set((row) => ({ owner, epoch: row('epoch', '+', 1), lease_expires_at: until }))
    .where('id', 'in', chosen)
    .where(due)
    .returningAll()
    .execute();
}

function isDue({ now, plans, except }: Pick<ClaimOptions, 'now' | 'plans' | 'except'>) {
  return (where: ExpressionBuilder<Database, 'sagas'>) =>
    where.and([
      where('wake_at', '<=', now),
      where.or([where('owner', 'is', null), where('lease_expires_at', '<=', now)]),
      where.or(plans.map(({ name, version }) => where.and({ name, version }))),
      ...(except.length > 0 ? [where('id', 'not in', except)] : []),
    ]);
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

/** Gives the row back; it is due at `wakeAt`, never again when that is null. */
export async function release(tx: Tx, { sagaId }: Lease, wakeAt: Millis | null): Promise<void> {
  await tx
    .updateTable('sagas')
    .set({ owner: null, lease_expires_at: 0, wake_at: wakeAt })
    .where('id', '=', sagaId)
    .execute();
}

/** Ends leases that are still the owner's, as if they had run out: for one that knows that nobody works under them. */
export async function endLeases(tx: Tx, leases: readonly Lease[]): Promise<void> {
  await tx
    .updateTable('sagas')
    .set({ owner: null, lease_expires_at: 0 })
    .where((where) => where.or(leases.map(({ sagaId, owner, epoch }) => where.and({ id: sagaId, owner, epoch }))))
    .execute();
}

/** When the next row that nobody leases is due. */
export async function nextDue(read: Reader, plans: ClaimOptions['plans']): Promise<Millis | undefined> {
  const row = await read
    .selectFrom('sagas')
    .select('wake_at')
    .where('wake_at', 'is not', null)
    .where('owner', 'is', null)
    .where((where) => where.or(plans.map((plan) => where.and(plan))))
    .orderBy('wake_at')
    .limit(1)
    .executeTakeFirst();
  return row?.wake_at ?? undefined;
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

export function insertStep(tx: Tx, { sagaId, name, ordinal, tenantId, now }: NewStep): Promise<SagaStepRow> {
  const start = { state: 'started', tries: 1, output: null, error: null, forward: null } as const;
  return tx
    .insertInto('saga_steps')
    .values({
      ...start,
      saga_id: sagaId,
      name,
      ordinal,
      tenant_id: tenantId ?? null,
      recheck_at: null,
      started_at: now,
      ended_at: null,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

export type StepChange = Partial<
  Pick<SagaStepRow, 'state' | 'tries' | 'output' | 'error' | 'recheck_at' | 'forward' | 'started_at' | 'ended_at'>
>;

export async function setStep(tx: Tx, sagaId: string, name: string, change: StepChange): Promise<void> {
  await tx.updateTable('saga_steps').set(change).where('saga_id', '=', sagaId).where('name', '=', name).execute();
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

/** When the first of a saga's waiting steps is to look again. */
export async function nextRecheck(tx: Tx, sagaId: string): Promise<Millis> {
  const row = await tx
    .selectFrom('saga_steps')
    .select((steps) => steps.fn.min('recheck_at').as('at'))
    .where('saga_id', '=', sagaId)
    .executeTakeFirst();
  return row?.at ?? 0;
}

export async function setSaga(
  tx: Tx,
  sagaId: string,
  change: Partial<Pick<SagaRow, 'state' | 'reason' | 'ended_at'>>,
): Promise<void> {
  await tx.updateTable('sagas').set(change).where('id', '=', sagaId).execute();
}
