import type { FastifyError } from 'fastify';

import type { ErrorCode, FieldError } from '../kernel/errors.ts';
import { RackstartError, asRackstartError } from '../kernel/errors.ts';
import { fieldErrors } from './field-errors.ts';

/** The one shape of every error answer. */
export interface Problem {
  readonly error: {
    readonly code: string;
    /** What happened. */
    readonly message: string;
    /** What to do. */
    readonly hint: string;
    /** One entry a field: JSON pointers into the body; or `/params`, `/querystring`, `/headers` and the name there. */
    readonly fields?: readonly FieldError[];
    readonly details?: Readonly<Record<string, unknown>>;
  };
}

export function problemOf(error: RackstartError): Problem {
  const { code, message, hint, fields, details } = error;
  // What went wrong inside is for the log; outside it could tell a stranger how we are made.
  const shown = code === 'internal' ? 'Something went wrong inside the appliance.' : message;
  return {
    error: {
      code,
      message: shown,
      hint,
      ...(fields.length === 0 ? {} : { fields }),
      ...(Object.keys(details).length === 0 || code === 'internal' ? {} : { details }),
    },
  };
}

/** Whatever a handler, the schema check or fastify itself threw, as one of ours. */
export function errorOf(error: unknown): RackstartError {
  if (!isFastifyError(error)) return asRackstartError(error);
  if (error.validation !== undefined) {
    return new RackstartError('request.invalid', 'The request does not have the form it must have.', {
      fields: fieldErrors(error.validation, error.validationContext ?? 'request'),
    });
  }
  const { statusCode = 500, message } = error;
  return statusCode < 500
    ? new RackstartError(codes[statusCode] ?? 'request.invalid', message)
    : asRackstartError(error);
}

const codes: Readonly<Record<number, ErrorCode>> = {
  413: 'request.too-large',
  415: 'request.media-type',
};

function isFastifyError(error: unknown): error is FastifyError {
  return error instanceof Error && 'code' in error && 'statusCode' in error && !(error instanceof RackstartError);
}
