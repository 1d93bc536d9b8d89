import type { EventLog } from '../events/event-log.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import type { FieldError } from '../kernel/errors.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { QuotaRequestRow, QuotaRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import type { Holder, QuotaFigures } from './quota.ts';
import { columnsOf, limitsOf, lockRow, measures } from './quota.ts';

export interface QuotaDeps {
  readonly events: EventLog;
  readonly clock: Clock;
  readonly ids: Ids;
}

/** Limits; what is not named stays as it is. */
export type SomeLimits = Partial<QuotaFigures>;

/** Who does it, from where, and why. */
export interface Deed {
  readonly actor: string;
  readonly origin?: string;
  readonly reason: string;
}

/**
 * Sets a holder's limits. Below what is used is allowed: nothing is taken away, and nothing more is admitted until there is
 * room again. Errors: `not-found`.
 */
export async function setQuota(
  tx: Tx,
  { events }: QuotaDeps,
  { holder, limits, deed }: { holder: Holder; limits: SomeLimits; deed: Deed },
): Promise<QuotaRow> {
  const before = await lockRow(tx, holder);
  if (before === undefined) throw noQuota(holder);
  const row = { ...before, ...columnsOf(limits) };
  await tx
    .updateTable('quotas')
    .set(columnsOf(limitsOf(row)))
    .where('holder_kind', '=', holder.kind)
    .where('holder_id', '=', holder.id)
    .execute();
  const { reason, ...by } = deed;
  const about = aboutHolder(row);
  await events.append(tx, 'quota.changed', {
    ...by,
    key: holder.id,
    tenantId: about.tenantId,
    data: { ...about, ...limitsOf(row), reason },
  });
  return row;
}

/**
 * Asks an operator for more. Returns the id of what was asked.
 *
 * Errors: `not-found` for a holder without a quota; `request.invalid` for what is no increase; `state.conflict` while somebody
 * has asked for the same holder and nobody has decided.
 */
export async function askForQuota(
  tx: Tx,
  { events, clock, ids }: QuotaDeps,
  { holder, limits, deed }: { holder: Holder; limits: SomeLimits; deed: Deed },
): Promise<string> {
  const row = await lockRow(tx, holder);
  if (row === undefined) throw noQuota(holder);
  const present = limitsOf(row);
  const fields: FieldError[] = measures
    .filter((measure) => (limits[measure] ?? Infinity) <= present[measure])
    .map((measure) => ({
      field: `/${measure}`,
      message: `must be more than ${String(present[measure])}, the limit now`,
    }));
  if (fields.length > 0) throw new RackstartError('request.invalid', 'This is no increase.', { fields });
  const id = ids.next('qrq');
  // One that waits a holder, held to by an index: two who ask at once are one who asked and one who is told so.
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('quota_requests')
    .values({
      id,
      tenant_id: row.tenant_id,
      holder_kind: holder.kind,
      holder_id: holder.id,
      asked: JSON.stringify(limits),
      reason: deed.reason,
      state: 'pending',
      requested_by: deed.actor,
      decided_by: null,
      decision: null,
      created_at: clock.now(),
      decided_at: null,
    })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (numInsertedOrUpdatedRows !== 1n) {
    throw new RackstartError('state.conflict', `More was asked for this ${holder.kind}, and is not decided yet.`);
  }
  const { reason, ...by } = deed;
  const about = aboutHolder(row);
  await events.append(tx, 'quota.increase-asked', {
    ...by,
    key: id,
    tenantId: about.tenantId,
    data: { quotaRequestId: id, ...about, asked: limits, reason },
  });
  return id;
}

export type QuotaDecision = 'approve' | 'deny';

/**
 * Decides what was asked, once. An approval raises the limits in the same transaction, and lowers none that were raised
 * meanwhile. Errors: `not-found`; `state.conflict` for what is decided, and for approving what is of a holder that is gone.
 */
export async function decideQuota(
  tx: Tx,
  deps: QuotaDeps,
  { id, decision, deed }: { id: string; decision: QuotaDecision; deed: Deed },
): Promise<void> {
  const at: Millis = deps.clock.now();
  const state = decision === 'approve' ? 'approved' : 'denied';
  const asked = await tx
    .updateTable('quota_requests')
    .set({ state, decided_by: deed.actor, decision: deed.reason, decided_at: at })
    .where('id', '=', id)
    .where('state', '=', 'pending')
    .returningAll()
    .executeTakeFirst();
  if (asked === undefined) throw await whyNotPending(tx, id);
  const holder: Holder = { kind: asked.holder_kind, id: asked.holder_id };
  if (decision === 'approve') {
    const row = await lockRow(tx, holder);
    if (row === undefined) {
      throw new RackstartError(
        'state.conflict',
        `The ${holder.kind} ${holder.id} is gone: deny what was asked for it.`,
      );
    }
    await setQuota(tx, deps, { holder, limits: raised(limitsOf(row), askedLimits(asked)), deed });
  }
  const { reason, ...by } = deed;
  const about = aboutHolder(asked);
  await deps.events.append(tx, 'quota.increase-decided', {
    ...by,
    key: id,
    tenantId: about.tenantId,
    data: { quotaRequestId: id, ...about, decision: state, reason },
  });
}

export function askedLimits({ asked }: QuotaRequestRow): SomeLimits {
  return JSON.parse(asked) as SomeLimits;
}

function aboutHolder({ tenant_id, holder_kind, holder_id }: QuotaRow | QuotaRequestRow) {
  return { tenantId: tenant_id, holderKind: holder_kind, holderId: holder_id };
}

function raised(present: QuotaFigures, asked: SomeLimits): SomeLimits {
  return Object.fromEntries(measures.map((measure) => [measure, Math.max(present[measure], asked[measure] ?? 0)]));
}

async function whyNotPending(read: Reader, id: string): Promise<RackstartError> {
  const row = await read.selectFrom('quota_requests').select('state').where('id', '=', id).executeTakeFirst();
  if (row === undefined) return new RackstartError('not-found', `Nobody asked for more quota under the id ${id}.`);
  return new RackstartError('state.conflict', `What was asked under ${id} is ${row.state} already.`);
}

function noQuota({ kind, id }: Holder): RackstartError {
  return new RackstartError('not-found', `There is no quota of a ${kind} ${id}.`);
}
