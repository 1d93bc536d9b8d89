import { AjvCompiler } from '@fastify/ajv-compiler';
import type { FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';

const common = { allErrors: true, removeAdditional: false, useDefaults: true } as const;

/** One complaint a field. A body means what it says; what stands in a URL is text, and may be read as the number it spells. */
export function schemaCompiler(): FastifySchemaCompiler<TSchema> {
  const compile = AjvCompiler();
  const options = (coerceTypes: boolean) => ({ customOptions: { ...common, coerceTypes } });
  const body = compile({}, options(false));
  const url = compile({}, options(true));
  return (route) => (route.httpPart === 'body' ? body : url)(route) as never;
}
