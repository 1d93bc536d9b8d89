import type { FastifyError } from 'fastify';

import type { FieldError } from '../kernel/errors.ts';
import { RackstartError, asRackstartError } from '../kernel/errors.ts';

/** The one shape of every error answer. */
export interface Problem {
  readonly error: {
    readonly code: string;
    /** What happened. */
    readonly message: string;
    /** What to do. */
    readonly hint: string;
    /** One entry a field, JSON pointers into the body. */
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
    const context = error.validationContext === 'body' ? '' : `/${error.validationContext ?? 'request'}`;
    const fields = error.validation.map(({ instancePath, message = 'is wrong', params, keyword }) => ({
      field: `${context}${instancePath}${namedIn(keyword, params)}` || '/',
      message,
    }));
    return new RackstartError('request.invalid', 'The request does not have the form it must have.', {
      fields: onePerField(fields),
    });
  }
  if (error.statusCode !== undefined && error.statusCode < 500) {
    return new RackstartError('request.invalid', error.message);
  }
  return asRackstartError(error);
}

function isFastifyError(error: unknown): error is FastifyError {
  return error instanceof Error && 'code' in error && 'statusCode' in error && !(error instanceof RackstartError);
}

// Unknown and missing fields are complaints about the object; people look for the field.
function namedIn(keyword: string, params: Record<string, unknown>): string {
  if (keyword === 'required') return `/${String(params['missingProperty'])}`;
  if (keyword === 'additionalProperties') return `/${String(params['additionalProperty'])}`;
  return '';
}

function onePerField(fields: readonly FieldError[]): FieldError[] {
  return [...new Map(fields.toReversed().map((field) => [field.field, field])).values()].toReversed();
}
