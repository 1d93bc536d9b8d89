import type { FastifyInstance, FastifyRequest } from 'fastify';

import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { Secret } from '../kernel/secret.ts';
import type { Reader } from '../store/store.ts';
import type { Caller } from '../tenants/api-key.ts';
import { authenticate } from '../tenants/api-key.ts';
import type { Right } from '../tenants/scopes.ts';
import { refusal } from '../tenants/scopes.ts';
import { requireTenant } from '../tenants/tenants.ts';
import { invalid } from './unique.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Set before any handler of the API runs. */
    caller: Caller;
  }

  interface FastifyContextConfig {
    /** What a caller must have; every route says. `public` is for everybody, without a key. */
    right?: Right | 'public';
  }
}

/** Errors: `auth.missing`, and those of `authenticate`. */
export async function callerOf(
  request: FastifyRequest,
  deps: { read: Reader; hmacKey: Secret; clock: Clock },
): Promise<Caller> {
  const [scheme, key, ...rest] = (request.headers.authorization ?? '').split(' ');
  if (scheme?.toLowerCase() !== 'bearer' || !key || rest.length > 0) {
    throw new RackstartError('auth.missing', 'The request carries no API key.');
  }
  return authenticate(deps.read, new Secret(key), { hmacKey: deps.hmacKey, at: deps.clock.now() });
}

/** Nothing is open by accident: an API with a route that does not say who may call it does not start. */
export function everyRouteSaysWhoMay(app: FastifyInstance): void {
  const routes: { name: string; says: () => unknown }[] = [];
  app.addHook('onRoute', (route) => {
    routes.push({ name: `${String(route.method)} ${route.url}`, says: () => route.config?.right });
  });
  // Routes of plugins are told what they are after this hook has seen them.
  app.addHook('onReady', async () => {
    const silent = routes.filter(({ says }) => says() === undefined).map(({ name }) => name);
    if (silent.length > 0) throw new RackstartError('internal', `Who may call these routes? ${silent.join(', ')}`);
  });
}

/** Before a byte of the body is read. Errors: `auth.forbidden`. */
export function authorize({ caller, routeOptions }: FastifyRequest): void {
  const { right } = routeOptions.config;
  if (right === 'public') return;
  if (right === undefined) throw new RackstartError('internal', `${String(routeOptions.url)} does not say who may.`);
  const refused = refusal(caller, right);
  if (refused === undefined) return;
  const details = { right, role: caller.role };
  const why =
    refused === 'role' ? `The role ${caller.role} does not have` : 'The scopes of this API key do not include';
  throw new RackstartError('auth.forbidden', `${why} ${right}.`, { details });
}

/** Whose things a caller may see and touch: undefined is every tenant's. */
export function tenantOf({ tenantId }: Caller): string | undefined {
  return tenantId;
}

/**
 * For which tenant something is made: a caller's own; who works for none says which.
 * Errors: `auth.forbidden` about any tenant but one's own, be it there or not; `request.invalid` about `/tenant`.
 */
export async function tenantFor(caller: Caller, asked: string | undefined, read: Reader): Promise<string> {
  const own = tenantOf(caller);
  if (own !== undefined && (asked === undefined || asked === own)) return own;
  if (own !== undefined) throw new RackstartError('auth.forbidden', 'This key acts for its own tenant.');
  if (asked === undefined) throw invalid('/tenant', 'Who works for no tenant says for which.');
  await requireTenant(read, asked);
  return asked;
}

/** Who did it and from where, as events keep it. */
export function doneBy({ caller, ip }: FastifyRequest): { actor: string; origin: string } {
  return { actor: caller.keyId, origin: ip };
}
