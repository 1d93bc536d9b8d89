import type { Socket } from 'node:net';

import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';

import type { ErrorCode, FieldError } from '../../appliance/kernel/errors.ts';
import { RackstartError, asRackstartError } from '../../appliance/kernel/errors.ts';
import type { Log } from '../../appliance/kernel/log.ts';

/** The one shape of an error answer. */
export interface ErrorBody {
  readonly error: {
    readonly code: ErrorCode;
    readonly message: string;
    readonly hint: string;
    readonly fields?: readonly FieldError[];
  };
}

/** Answers with whatever was thrown. What is not ours to show stays in the log; no URL is logged: it may hold a token. */
export function errorHandler(log: Log) {
  return (thrown: FastifyError | Error, request: FastifyRequest, reply: FastifyReply): void => {
    const error = asRequestError(thrown);
    const { code, status } = error;
    if (code === 'internal') log.error({ route: request.routeOptions.url, err: thrown }, 'boot request failed');
    // A body that is too long or of another type is an invalid request with a status of its own.
    const own = 'statusCode' in thrown && code === 'request.invalid' ? thrown.statusCode : undefined;
    void reply
      .code(own ?? status)
      .header('cache-control', 'no-store')
      .type('application/json; charset=utf-8')
      .send(JSON.stringify(errorBody(error)));
  };
}

export function notFound(): never {
  throw new RackstartError('not-found', 'There is nothing at this address.');
}

/** What was no HTTP request, came too slowly or had too many headers: answered as far as that still works, and closed. */
export function clientErrorHandler(error: NodeJS.ErrnoException, socket: Socket): void {
  const code = error.code ?? '';
  // A TLS handshake that failed or never came has nobody to answer.
  if (!socket.writable || !(code.startsWith('HPE_') || code === 'ERR_HTTP_REQUEST_TIMEOUT')) {
    socket.destroy();
    return;
  }
  const status = clientErrors[code] ?? '400 Bad Request';
  const body = JSON.stringify(errorBody(new RackstartError('request.invalid', 'This is not a whole HTTP request.')));
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n` +
      `Connection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}

const clientErrors: Readonly<Record<string, string>> = {
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
};

function asRequestError(thrown: FastifyError | Error): RackstartError {
  if (thrown instanceof RackstartError || !('statusCode' in thrown)) return asRackstartError(thrown);
  const { statusCode = 500, validation } = thrown;
  if (statusCode >= 500) return asRackstartError(thrown);
  const messages = new Map(
    (validation ?? []).map(({ instancePath, params, message }) => [pointer(instancePath, params), message]),
  );
  // Ajv tells of a name that is not allowed twice, once without saying which.
  if (messages.size > 1) messages.delete('');
  const fields = [...messages].slice(0, 32).map(([field, message = 'is not acceptable']) => ({ field, message }));
  return new RackstartError('request.invalid', fields.length > 0 ? 'Some fields are not acceptable.' : thrown.message, {
    fields,
  });
}

// Ajv names a missing or unknown field beside the path, not in it.
function pointer(instancePath: string, params: Record<string, unknown>): string {
  const named = params['missingProperty'] ?? params['additionalProperty'] ?? params['propertyName'];
  return typeof named === 'string' ? `${instancePath}/${named.slice(0, 64)}` : instancePath;
}

function errorBody({ code, message, hint, fields }: RackstartError): ErrorBody {
  const shown = code === 'internal' ? 'Something went wrong inside the appliance.' : message;
  return { error: { code, message: shown, hint, ...(fields.length > 0 ? { fields } : {}) } };
}
