import type { FastifyRequest } from 'fastify';

import { RackstartError } from '../kernel/errors.ts';
import { Secret } from '../kernel/secret.ts';
import type { Reader } from '../store/store.ts';
import type { Caller } from '../tenants/api-key.ts';
import { authenticate } from '../tenants/api-key.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Set before any handler of the API runs. */
    caller: Caller;
  }
}

/** Errors: `auth.missing`, `auth.invalid`. */
export async function callerOf(request: FastifyRequest, read: Reader, hmacKey: Secret): Promise<Caller> {
  const [scheme, key, ...rest] = (request.headers.authorization ?? '').split(' ');
  if (scheme?.toLowerCase() !== 'bearer' || !key || rest.length > 0) {
    throw new RackstartError('auth.missing', 'The request carries no API key.');
  }
  return authenticate(read, new Secret(key), hmacKey);
}

/** For the options of such a route: who may not call it is told so before a byte of the body is read. */
export const operatorOnly = { onRequest: async (request: FastifyRequest) => operator(request) };

/**
 * Whose things a caller may see: undefined is every tenant's. An operator who acts for a tenant names it.
 * Errors: `auth.forbidden` when a member names another tenant.
 */
export function scopeOf(caller: Caller): string | undefined {
  return caller.role === 'operator' ? undefined : caller.tenantId;
}

/** Errors: `auth.forbidden`. */
function operator(request: FastifyRequest): void {
  if (request.caller.role !== 'operator') {
    throw new RackstartError('auth.forbidden', 'This is for operators.');
  }
}
