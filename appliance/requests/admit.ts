import { createHash } from 'node:crypto';
import { sql } from 'kysely';

import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import type { FieldError } from '../kernel/errors.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { StageTimes } from '../kernel/stage-times.ts';
import { untimed } from '../kernel/stage-times.ts';
import type { ServerSpec } from '../providers/provider.ts';
import type { Providers } from '../providers/providers.ts';
import type { Sagas } from '../saga/sagas.ts';
import type { FlavorRow, ImageRow, RegionRow } from '../store/schema.ts';
import type { Reader, Store, Tx } from '../store/store.ts';
import { DEFAULT_PROJECT, projectOf } from '../tenants/projects.ts';
import { holdersOf, reserveQuota } from '../tenants/quota.ts';
import { startAttempt } from './attempts.ts';
import type { Dispatcher } from './dispatcher.ts';
import { areMet, notePrerequisites } from './prerequisites.ts';
import type { ProvisionSaga } from './provision.ts';
import { quotaShape } from './provision.ts';
import type { ServerOrder } from './server-order.ts';

export interface AdmitDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly sagas: Sagas;
  readonly provision: ProvisionSaga;
  readonly providers: Providers;
  readonly dispatcher: Dispatcher;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly times?: StageTimes;
}

export interface Admission {
  readonly tenantId: string;
  /** The API key that asks, whose it is, and where it was shown. */
  readonly actor: string;
  readonly userId?: string | undefined;
  readonly origin?: string | undefined;
  /** The same key with the same order gets the same request; with another order it is refused. */
  readonly idempotencyKey?: string;
}

/**
 * Takes a server order in, or refuses it whole: names resolved, quota reserved, request, first attempt and saga written in one
 * transaction, and, where nobody has to wait, its turn given in that same one. Returns the request's id.
 *
 * Errors: `request.invalid` with one complaint a field, `image.deprecated`, `quota.exceeded`, `idempotency.reused`.
 */
export function admitServer(deps: AdmitDeps, order: ServerOrder, admission: Admission): Promise<string> {
  const digest = digestOf(order);
  return deps.store.transaction(async (tx) => {
    const known = await findByIdempotencyKey(tx, admission, digest);
    return known ?? writeOrder(tx, deps, order, admission, digest);
  });
}

// Whatever the order in which a client writes its fields.
function digestOf(order: ServerOrder): string {
  const { hostname, region, flavor, image, sshKeys, userData = null, project = null } = order;
  const { provider = null, cluster = null, dependsOn = [] } = order;
  const fields: unknown[] = [hostname, region, flavor, image, sshKeys, userData, project];
  // An order that says nothing of it has the digest that it had before there was a choice.
  if (provider !== null || cluster !== null) fields.push(provider, cluster);
  if (dependsOn.length > 0) fields.push(dependsOn);
  return createHash('sha256').update(JSON.stringify(fields)).digest('hex');
}

async function findByIdempotencyKey(tx: Tx, admission: Admission, digest: string): Promise<string | undefined> {
  if (admission.idempotencyKey === undefined) return undefined;
  const request = await tx
    .selectFrom('requests')
    .select(['id', 'idempotency_digest'])
    .where('tenant_id', '=', admission.tenantId)
    .where('idempotency_key', '=', admission.idempotencyKey)
    .executeTakeFirst();
  if (request !== undefined && request.idempotency_digest !== digest) {
    throw new RackstartError('idempotency.reused', 'This Idempotency-Key came with a different order before.');
  }
  return request?.id;
}

/** One order, in the transaction of whoever takes it in. */
export async function writeOrder(
  tx: Tx,
  deps: AdmitDeps,
  order: ServerOrder,
  admission: Admission,
  digest = digestOf(order),
): Promise<string> {
  const { tenantId, userId = null, actor, origin, idempotencyKey } = admission;
  const { events, providers, dispatcher, clock, ids, times = untimed } = deps;
  const { region, flavor, image, projectId } = await resolve(tx, order, tenantId, deps.store.dialect);
  const { provider, cluster } = providers.choose(order);
  const fields = providers.of({ provider }).complaints?.({ flavor, image }) ?? [];
  if (fields.length > 0) throw new RackstartError('request.invalid', 'No such server can be made.', { fields });
  const at = clock.now();
  const requestId = ids.next('srv');
  const attemptId = ids.next('att');
  const { hostname, sshKeys, userData, dependsOn = [] } = order;
  const isReady = await areMet(tx, tenantId, dependsOn);
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('requests')
    .values({
      id: requestId,
      tenant_id: tenantId,
      provider,
      cluster,
      hostname,
      region_id: region.id,
      flavor_id: flavor.id,
      image_id: image.id,
      params: JSON.stringify({ sshKeys, userData }),
      state: 'queued',
      connection: null,
      failure: null,
      idempotency_key: idempotencyKey ?? null,
      idempotency_digest: idempotencyKey === undefined ? null : digest,
      project_id: projectId,
      user_id: userId,
      progress_at: null,
      ready_at: null,
      dispatched_at: null,
      created_by: actor,
      created_at: at,
      updated_at: at,
      completed_at: null,
      ended_at: null,
    })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (numInsertedOrUpdatedRows !== 1n) {
    // The same key came a second time at the same time.
    const known = await findByIdempotencyKey(tx, admission, digest);
    if (known === undefined) throw new RackstartError('internal', `The id ${requestId} was given twice.`);
    return known;
  }
  await notePrerequisites(tx, { requestId, tenantId }, dependsOn);
  const holders = holdersOf({ tenant_id: tenantId, project_id: projectId, user_id: userId });
  await times.timed('quota', () => reserveQuota(tx, holders, quotaShape(flavor)));
  const spec: ServerSpec = {
    requestId,
    attemptId,
    tenantId,
    provider,
    cluster,
    hostname,
    regionId: region.id,
    flavor,
    image,
    sshKeys,
    ...(userData === undefined ? {} : { userData }),
  };
  const about = { key: requestId, tenantId, actor, origin };
  await events.append(tx, 'request.state-changed', { ...about, data: { requestId, from: null, to: 'queued' } });
  await events.append(tx, 'provisioning.started', { ...about, data: { requestId, tenantId, attemptId, attempt: 1 } });
  const asleep = !isReady || !(await dispatcher.admit(tx, { requestId, tenantId }));
  await startAttempt(tx, deps, { number: 1, spec, asleep, at });
  return requestId;
}

async function resolve(
  read: Reader,
  order: ServerOrder,
  tenantId: string,
  dialect: Store['dialect'],
): Promise<{ region: RegionRow; flavor: FlavorRow; image: ImageRow; projectId: string }> {
  const region = await read.selectFrom('regions').selectAll().where('name', '=', order.region).executeTakeFirst();
  const flavor = await read.selectFrom('flavors').selectAll().where('name', '=', order.flavor).executeTakeFirst();
  // Nobody deletes it until the order that needs it is there; SQLite's transactions take turns anyway.
  const image = await orderedImage(read, order.image, tenantId, { locked: dialect === 'postgres' });
  const projectId = await projectOf(read, tenantId, order.project ?? DEFAULT_PROJECT);
  if (region && flavor && image && projectId) return { region, flavor, image, projectId };
  const unknown: [string, unknown][] = [
    ['region', region],
    ['flavor', flavor],
    ['image', image],
    ['project', projectId],
  ];
  const fields: FieldError[] = unknown
    .filter(([, found]) => found === undefined)
    .map(([name]) => ({ field: `/${name}`, message: `There is no such ${name}.` }));
  throw new RackstartError('request.invalid', 'The order names things that do not exist.', { fields });
}

/**
 * By `name:version`, or by a name its newest version; a tenant's own before everyone's. Errors: `image.deprecated` when only such
 * would fit.
 */
export async function orderedImage(
  read: Reader,
  reference: string,
  tenantId: string | undefined,
  { locked = false }: { readonly locked?: boolean } = {},
): Promise<ImageRow | undefined> {
  const colon = reference.indexOf(':');
  const name = colon < 0 ? reference : reference.slice(0, colon);
  const version = colon < 0 ? undefined : reference.slice(colon + 1);
  const image = await read
    .selectFrom('images')
    .selectAll()
    .where('name', '=', name)
    .where('deleted_at', 'is', null)
    .where((is) => {
      const everyones = is('tenant_id', 'is', null);
      return tenantId === undefined ? everyones : is.or([everyones, is('tenant_id', '=', tenantId)]);
    })
    .$if(version !== undefined, (query) => query.where('version', '=', version ?? ''))
    // A version that is named is meant; of those of a name, what may be ordered comes first.
    .$if(version === undefined, (query) => query.orderBy(sql`case when deprecated_at is null then 0 else 1 end`))
    .orderBy(sql`case when tenant_id is null then 1 else 0 end`)
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(1)
    .$if(locked, (query) => query.forKeyShare())
    .executeTakeFirst();
  if (image !== undefined && image.deprecated_at !== null) {
    const which = `${image.name}:${image.version}`;
    throw new RackstartError('image.deprecated', `Image ${which} is deprecated, and not ordered any more.`);
  }
  return image;
}
