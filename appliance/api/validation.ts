import { AjvCompiler } from '@fastify/ajv-compiler';
import { SerializerSelector } from '@fastify/fast-json-stringify-compiler';
import type {
  FastifyInstance,
  FastifySchemaCompiler,
  FastifySchemaValidationError,
  FastifySerializerCompiler,
} from 'fastify';
import { Type } from 'typebox';
import type { TSchema } from 'typebox';

import { RackstartError } from '../kernel/errors.ts';
import { strict } from './schemas.ts';
import { invalid } from './unique.ts';

/** Of a request, in bytes, where a route does not say otherwise: 64 KiB of user data, however they are escaped. */
export const BODY_LIMIT = 256 * 1024;

// Every complaint, with the schema that makes it: people are told in its words.
const common = { allErrors: true, verbose: true, removeAdditional: false, useDefaults: true } as const;

type Check = ((value: unknown) => boolean) & { errors?: FastifySchemaValidationError[] | null };

/**
 * One complaint a field. A body means what it says; what stands in a URL is text, and may be read as the number it spells. Compiled
 * at a route's first request: the schemas of all routes take 0.2 s of processor time and more, which no start need wait for.
 */
export function schemaCompiler(): FastifySchemaCompiler<TSchema> {
  const compile = AjvCompiler();
  const options = (coerceTypes: boolean) => ({ customOptions: { ...common, coerceTypes } });
  const body = compile({}, options(false));
  const url = compile({}, options(true));
  return (route) => {
    let check: Check | undefined;
    return onlyWhatIsKept(() => (check ??= (route.httpPart === 'body' ? body : url)(route)));
  };
}

/** Of answers; compiled when a route gives its first. */
export function answerCompiler(): FastifySerializerCompiler<unknown> {
  const compile = SerializerSelector()();
  return (route) => {
    let serialize: ((answer: unknown) => string) | undefined;
    return (answer) => (serialize ??= compile({ httpStatus: '200', ...route }))(answer);
  };
}

/** Sees to it that nothing which a caller sends is overlooked: what a route does not know, it refuses. */
export function refuseUnknown(scope: FastifyInstance): void {
  scope.addHook('onRoute', (route) => {
    const { schema, bodyLimit = BODY_LIMIT } = route;
    route.schema = { querystring: Type.Object({}, strict), ...schema };
    if (schema?.body !== undefined) route.schema.description = `The body may have ${String(bodyLimit)} bytes.`;
  });
  scope.addHook('preValidation', async ({ body, headers, routeOptions: { schema } }) => {
    if (schema?.consumes !== undefined) {
      const type = headers['content-type']?.split(';')[0]?.trim().toLowerCase() ?? 'none';
      if (schema.consumes.includes(type)) return;
      throw new RackstartError('request.media-type', `This route takes ${schema.consumes.join(', ')}, not ${type}.`);
    }
    if (body === undefined || body === null || schema?.body !== undefined) return;
    if (typeof body !== 'object' || Object.keys(body).length > 0) throw invalid('/', 'This route takes no body.');
  });
}

/**
 * What JSON has and the store has not, whatever a schema says: U+0000, which is none of PostgreSQL's text (manual, §8.3) nor of
 * any name or line that a machine is told; and whole numbers beyond 2^53, which would be kept as others. Looks no deeper than
 * any schema here, since what is nested a thousand times would end the stack.
 */
function onlyWhatIsKept(compiled: () => Check): Check {
  const checked: Check = (value) => {
    const check = compiled();
    const isValid = check(value);
    checked.errors = [...(isValid ? [] : (check.errors ?? [])), ...unkept(value, '', 0)];
    return checked.errors.length === 0;
  };
  return checked;
}

function unkept(value: unknown, instancePath: string, depth: number): FastifySchemaValidationError[] {
  const complaint = (keyword: string) => [{ keyword, instancePath, schemaPath: '', params: {} }];
  if (typeof value === 'string') return value.includes('\0') ? complaint('nul') : [];
  if (typeof value === 'number') return Number.isSafeInteger(Math.trunc(value)) ? [] : complaint('unsafe');
  if (typeof value !== 'object' || value === null) return [];
  if (depth === DEEPEST) return complaint('deep');
  return Object.entries(value).flatMap(([name, part]) => unkept(part, `${instancePath}/${escaped(name)}`, depth + 1));
}

const DEEPEST = 8;

/** A name as part of a JSON pointer (RFC 6901 §3). */
export function escaped(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}
