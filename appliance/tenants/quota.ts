import { RackstartError } from '../kernel/errors.ts';
import type { QuotaRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';

/** Who may hold so much and no more. What is ordered counts for its tenant, its project, and the user whose key asked. */
export type HolderKind = QuotaRow['holder_kind'];

export interface Holder {
  readonly kind: HolderKind;
  readonly id: string;
}

/** What one server counts for. */
export interface QuotaShape {
  readonly cores: number;
  readonly memoryMib: number;
  readonly diskGib: number;
}

/** One figure a measure: what is allowed, what is used, what is asked for. */
export interface QuotaFigures extends QuotaShape {
  readonly servers: number;
}

export type Measure = keyof QuotaFigures;

/** What a holder is allowed when it is made, by its kind. */
export type QuotaDefaults = Readonly<Record<HolderKind, QuotaFigures>>;

const generous = { servers: 100, cores: 10_000, memoryMib: 64 * 1024 * 1024, diskGib: 1024 * 1024 };

/** Generous on purpose: a quota stops a runaway script, not a customer. */
export const defaultQuotas: QuotaDefaults = { tenant: generous, project: generous, user: generous };

/** Gives a tenant, a project or a tenant's user its quota; in the transaction that makes it. */
export async function openQuota(
  tx: Tx,
  { kind, id, tenantId }: Holder & { readonly tenantId: string },
  defaults: QuotaDefaults = defaultQuotas,
): Promise<void> {
  const none = { used_servers: 0, used_cores: 0, used_memory_mib: 0, used_disk_gib: 0 };
  await tx
    .insertInto('quotas')
    .values({ holder_kind: kind, holder_id: id, tenant_id: tenantId, ...columnsOf(defaults[kind]), ...none })
    .execute();
}

/** For whom a request counts: its row says. */
export function holdersOf(request: {
  readonly tenant_id: string;
  readonly project_id: string | null;
  readonly user_id: string | null;
}): Holder[] {
  const { tenant_id, project_id, user_id } = request;
  return [
    { kind: 'tenant', id: tenant_id },
    ...(project_id === null ? [] : [{ kind: 'project', id: project_id } as const]),
    ...(user_id === null ? [] : [{ kind: 'user', id: user_id } as const]),
  ];
}

/**
 * Takes one server's share of every holder's quota, or fails, and with it the transaction: none is taken then. Exact under any
 * concurrency, since each is a conditional update. A limit that was set below what is used takes nothing away; it refuses more.
 *
 * Errors: `quota.exceeded`, with the holder and every measure that is short in the details.
 */
export async function reserveQuota(tx: Tx, holders: readonly Holder[], shape: QuotaShape): Promise<void> {
  const asked = { servers: 1, ...shape };
  for (const holder of inLockOrder(holders)) await reserve(tx, holder, asked);
}

/** Gives one server's share back. The caller sees to it that this happens once: in the transaction that ends the request. */
export async function freeQuota(tx: Tx, holders: readonly Holder[], shape: QuotaShape): Promise<void> {
  for (const { kind, id } of inLockOrder(holders)) {
    await tx
      .updateTable('quotas')
      .set((eb) => ({
        used_servers: eb('used_servers', '-', 1),
        used_cores: eb('used_cores', '-', shape.cores),
        used_memory_mib: eb('used_memory_mib', '-', shape.memoryMib),
        used_disk_gib: eb('used_disk_gib', '-', shape.diskGib),
      }))
      .where('holder_kind', '=', kind)
      .where('holder_id', '=', id)
      .execute();
  }
}

export function limitsOf(row: QuotaRow): QuotaFigures {
  return {
    servers: row.max_servers,
    cores: row.max_cores,
    memoryMib: row.max_memory_mib,
    diskGib: row.max_disk_gib,
  };
}

export function usedOf(row: QuotaRow): QuotaFigures {
  return {
    servers: row.used_servers,
    cores: row.used_cores,
    memoryMib: row.used_memory_mib,
    diskGib: row.used_disk_gib,
  };
}

const columns = {
  servers: 'max_servers',
  cores: 'max_cores',
  memoryMib: 'max_memory_mib',
  diskGib: 'max_disk_gib',
} as const satisfies Record<Measure, keyof QuotaRow>;

export const measures = Object.keys(columns) as readonly Measure[];

/** Limits as columns of `quotas`; those that are not named stay out. */
export function columnsOf(limits: QuotaFigures): Pick<QuotaRow, (typeof columns)[Measure]>;
export function columnsOf(limits: Partial<QuotaFigures>): Partial<Pick<QuotaRow, (typeof columns)[Measure]>>;
export function columnsOf(limits: Partial<QuotaFigures>): Partial<Pick<QuotaRow, (typeof columns)[Measure]>> {
  return Object.fromEntries(
    measures.flatMap((measure) => (limits[measure] === undefined ? [] : [[columns[measure], limits[measure]]])),
  );
}

// Whoever locks several rows takes them in one order, so that nobody waits in a circle: a tenant, its project, its user.
const lockOrder: readonly HolderKind[] = ['tenant', 'project', 'user'];

function inLockOrder(holders: readonly Holder[]): readonly Holder[] {
  return lockOrder.flatMap((kind) => holders.filter((holder) => holder.kind === kind));
}

async function reserve(tx: Tx, holder: Holder, asked: QuotaFigures): Promise<void> {
  if (await took(tx, holder, asked)) return;
  const row = await lockRow(tx, holder);
  if (row === undefined) {
    if (await isOperator(tx, holder)) return;
    if (holder.kind === 'project') throw new RackstartError('state.conflict', 'The project has just been deleted.');
    throw new RackstartError('internal', `The ${holder.kind} ${holder.id} has no quota.`);
  }
  const short = shortOf(row, asked);
  if (short.length > 0) throw exceeded(holder, await nameOf(tx, holder), short);
  // Somebody gave back between the two looks; from here on the row is ours.
  if (!(await took(tx, holder, asked)))
    throw new RackstartError('internal', `No quota of ${holder.id} could be taken.`);
}

async function took(tx: Tx, { kind, id }: Holder, asked: QuotaFigures): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('quotas')
    .set((eb) => ({
      used_servers: eb('used_servers', '+', asked.servers),
      used_cores: eb('used_cores', '+', asked.cores),
      used_memory_mib: eb('used_memory_mib', '+', asked.memoryMib),
      used_disk_gib: eb('used_disk_gib', '+', asked.diskGib),
    }))
    .where('holder_kind', '=', kind)
    .where('holder_id', '=', id)
    .where((eb) =>
      eb.and([
        eb(eb('used_servers', '+', asked.servers), '<=', eb.ref('max_servers')),
        eb(eb('used_cores', '+', asked.cores), '<=', eb.ref('max_cores')),
        eb(eb('used_memory_mib', '+', asked.memoryMib), '<=', eb.ref('max_memory_mib')),
        eb(eb('used_disk_gib', '+', asked.diskGib), '<=', eb.ref('max_disk_gib')),
      ]),
    )
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** What a holder's quota is, with nobody else changing it until the transaction ends. */
export function lockRow(tx: Tx, { kind, id }: Holder): Promise<QuotaRow | undefined> {
  // An update that changes nothing: a lock by one statement that both databases know.
  return tx
    .updateTable('quotas')
    .set((eb) => ({ used_servers: eb.ref('used_servers') }))
    .where('holder_kind', '=', kind)
    .where('holder_id', '=', id)
    .returningAll()
    .executeTakeFirst();
}

/** A measure that does not suffice. */
export interface Shortage {
  readonly measure: Measure;
  readonly asked: number;
  readonly used: number;
  readonly limit: number;
}

function shortOf(row: QuotaRow, asked: QuotaFigures): Shortage[] {
  const [used, limits] = [usedOf(row), limitsOf(row)];
  return measures
    .map((measure) => ({ measure, asked: asked[measure], used: used[measure], limit: limits[measure] }))
    .filter((each) => each.used + each.asked > each.limit);
}

function exceeded({ kind, id }: Holder, name: string, short: readonly Shortage[]): RackstartError {
  const list = short.map(({ measure, asked, used, limit }) => {
    return `${measure} ${String(asked)} more than ${String(used)} of ${String(limit)}`;
  });
  return new RackstartError(
    'quota.exceeded',
    `This would exceed the quota of the ${kind} ${name}: ${list.join(', ')}.`,
    {
      details: { holder: { kind, id, name }, short },
    },
  );
}

const tables = { tenant: 'tenants', project: 'projects', user: 'users' } as const;

/** As people call it. */
export async function nameOf(read: Reader, { kind, id }: Holder): Promise<string> {
  const row = await read.selectFrom(tables[kind]).select('name').where('id', '=', id).executeTakeFirst();
  return row?.name ?? id;
}

// Who works for the fleet is nobody's tenant and holds no quota: what an operator orders counts for tenant and project.
async function isOperator(read: Reader, { kind, id }: Holder): Promise<boolean> {
  if (kind !== 'user') return false;
  const row = await read.selectFrom('users').select('tenant_id').where('id', '=', id).executeTakeFirst();
  return row?.tenant_id === null;
}
