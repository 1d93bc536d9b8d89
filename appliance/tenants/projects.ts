import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { ProjectRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import { lockRow, openQuota } from './quota.ts';

/** What servers belong to that name none; every tenant has it, for good. */
export const DEFAULT_PROJECT = 'default';

export interface NewProject {
  readonly id: string;
  readonly tenantId: string;
  readonly name: string;
}

/** A project with its quota. False, and nothing is written, when the name is taken. */
export async function addProject(tx: Tx, { id, tenantId, name }: NewProject, at: Millis): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('projects')
    .values({ id, tenant_id: tenantId, name, created_at: at, deleted_at: null })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (numInsertedOrUpdatedRows !== 1n) return false;
  await openQuota(tx, { kind: 'project', id, tenantId });
  return true;
}

/** A tenant's, or everybody's; by name. */
export function listProjects(read: Reader, tenantId: string | undefined): Promise<ProjectRow[]> {
  return read
    .selectFrom('projects')
    .selectAll()
    .where('deleted_at', 'is', null)
    .$if(tenantId !== undefined, (query) => query.where('tenant_id', '=', tenantId ?? ''))
    .orderBy('name')
    .orderBy('id')
    .execute();
}

/** The id of what a tenant calls so. */
export async function projectOf(read: Reader, tenantId: string, name: string): Promise<string | undefined> {
  const project = await read
    .selectFrom('projects')
    .select('id')
    .where('tenant_id', '=', tenantId)
    .where('name', '=', name)
    .where('deleted_at', 'is', null)
    .executeTakeFirst();
  return project?.id;
}

/**
 * Deletes a project that has no servers now; those that it had still say where they were. Its quota goes with it, under the lock
 * that every order takes: one that comes at the same time is either there to be seen, or finds no project.
 *
 * Errors: `not-found`, also for another tenant's; `state.conflict` for one with servers, and for the default one.
 */
export async function deleteProject(
  tx: Tx,
  id: string,
  { tenantId, at }: { tenantId: string | undefined; at: Millis },
): Promise<ProjectRow> {
  const project = await tx
    .selectFrom('projects')
    .selectAll()
    .where('id', '=', id)
    .where('deleted_at', 'is', null)
    .$if(tenantId !== undefined, (query) => query.where('tenant_id', '=', tenantId ?? ''))
    .executeTakeFirst();
  const absent = new RackstartError('not-found', `There is no project ${id}.`);
  if (project === undefined) throw absent;
  if (project.name === DEFAULT_PROJECT) throw new RackstartError('state.conflict', 'The default project stays.');
  const quota = await lockRow(tx, { kind: 'project', id });
  // Somebody else deleted it while we waited.
  if (quota === undefined) throw absent;
  if (quota.used_servers > 0) throw new RackstartError('state.conflict', `There are servers in project ${id}.`);
  await tx.deleteFrom('quotas').where('holder_kind', '=', 'project').where('holder_id', '=', id).execute();
  await tx.updateTable('projects').set({ deleted_at: at }).where('id', '=', id).execute();
  return project;
}
