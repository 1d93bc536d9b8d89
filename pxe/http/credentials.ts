import type { FastifyRequest } from 'fastify';

import type { ErrorCode } from '../../appliance/kernel/errors.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';
import { Secret } from '../../appliance/kernel/secret.ts';
import { PROTOCOL } from './messages.ts';

/** The bearer of a request. Error: `code`, for none at all or one that can't be ours. */
export function bearerOf(request: FastifyRequest, code: ErrorCode = 'boot.token-refused'): Secret {
  const [, token] = /^Bearer ([A-Za-z0-9._-]{1,256})$/i.exec(request.headers.authorization ?? '') ?? [];
  if (token === undefined) throw new RackstartError(code, 'The request carries no bearer of ours.');
  return new Secret(token);
}

/**
 * Refuses another version of the protocol before its message is held against this version's form: `boot.protocol`.
 * A message without a version is merely invalid.
 */
export async function requireProtocol({ body }: FastifyRequest): Promise<void> {
  const spoken = (body as { protocol?: unknown } | undefined)?.protocol;
  if (typeof spoken !== 'string' || spoken === PROTOCOL || !/^[0-9]{1,6}$/.test(spoken)) return;
  throw new RackstartError(
    'boot.protocol',
    `The appliance speaks version ${PROTOCOL} of the boot protocol, not ${spoken}.`,
  );
}
