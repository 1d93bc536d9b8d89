import type { FastifyInstance, InjectOptions } from 'fastify';

import { Id } from './schemas.ts';

/** A route as the API's document describes it. */
export interface Operation {
  /** `GET /servers/{id}` */
  readonly name: string;
  readonly method: string;
  readonly path: string;
  readonly parameters: readonly { readonly in: string; readonly name: string; readonly schema: Schema }[];
  /** Undefined where there is no body. */
  readonly body: { readonly schema: Schema } | undefined;
}

/** Where a call names a thing by its id. */
export interface Place {
  readonly in: 'path' | 'query' | 'body';
  readonly name: string;
  /** What kind of thing: `server`, `api-key` … */
  readonly of: string;
}

/** One id of every kind of thing. */
export type Ids = Readonly<Record<string, string>>;

/** What the document's patterns do not tell: values that are valid, by the name of their field. */
export type Texts = Readonly<Record<string, unknown>>;

/** A body that is no JSON, and the headers that go with it. */
export class Sent {
  readonly type: string;
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, string>>;

  constructor(type: string, body: Buffer, headers: Readonly<Record<string, string>> = {}) {
    this.type = type;
    this.body = body;
    this.headers = headers;
  }
}

export interface Schema {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly format?: string;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly minLength?: number;
  readonly minItems?: number;
  readonly minProperties?: number;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
}

/** Every route of the document; one that tells kinds of things apart once for each kind. */
export async function operationsOf(app: FastifyInstance): Promise<Operation[]> {
  const document = (await app.inject({ url: '/docs/json' })).json<OpenApi>();
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { parameters = [], requestBody }]) => {
      const [content] = Object.values(requestBody?.content ?? {});
      const body = content === undefined ? undefined : { schema: content.schema ?? {} };
      const [verb, route] = [method.toUpperCase(), path.replace('/api/v1', '')];
      return { name: `${verb} ${route}`, method: verb, path: route, parameters, body };
    }),
  );
}

interface OpenApi {
  readonly paths: Record<
    string,
    Record<
      string,
      {
        readonly parameters?: Operation['parameters'];
        readonly requestBody?: { readonly content: Record<string, { readonly schema?: Schema }> };
      }
    >
  >;
}

/** The values of the field `kind`, which says what kind of thing another field of the call names; one, of no meaning, without it. */
export function kindsOf({ parameters, body }: Operation): readonly string[] {
  const schema = parameters.find(({ name }) => name === 'kind')?.schema ?? body?.schema.properties?.['kind'];
  return schema === undefined ? [''] : choicesOf(schema).map(String);
}

/** Where this route takes ids. Fails for a parameter in the path that is no id, and that `texts` does not know. */
export function placesOf(operation: Operation, kind: string, texts: Texts): Place[] {
  const inUrl = operation.parameters.flatMap(({ in: where, name, schema }): Place[] => {
    if (isId(schema)) return [{ in: where as 'path', name, of: thing(operation, where, name, kind) }];
    if (where === 'path' && name !== 'kind' && texts[name] === undefined) {
      throw new Error(`The walk does not know what {${name}} of ${operation.name} is.`);
    }
    return [];
  });
  const inBody = Object.entries(operation.body?.schema.properties ?? {})
    .filter(([, schema]) => isId(schema) || isId(schema.items))
    .map(([name]): Place => ({ in: 'body', name, of: thing(operation, 'body', name, kind) }));
  return [...inUrl, ...inBody];
}

/** A call of the route: valid values in what is required, `ids` in the places that are `named` and in the other required ones. */
export function callOf(
  operation: Operation,
  { kind, named, ids, texts }: { kind: string; named: readonly Place[]; ids: (place: Place) => string; texts: Texts },
): InjectOptions {
  const known: Texts = { ...texts, kind };
  const places = placesOf(operation, kind, texts);
  const value = (where: string, name: string, schema: Schema): unknown => {
    const place = places.find((each) => each.in === where && each.name === name);
    if (place === undefined) return sample(name, schema, known, operation.name);
    return schema.type === 'array' ? [ids(place)] : ids(place);
  };
  const isNamed = (where: string, name: string) => named.some((each) => each.in === where && each.name === name);
  const query = new URLSearchParams();
  let { path } = operation;
  for (const { in: where, name, schema, ...rest } of operation.parameters) {
    const isRequired = (rest as { required?: boolean }).required ?? false;
    if (where === 'path') path = path.replace(`{${name}}`, encodeURIComponent(String(value('path', name, schema))));
    if (where === 'query' && (isRequired || isNamed('query', name)))
      query.set(name, String(value('query', name, schema)));
  }
  const url = `/api/v1${path}${query.size === 0 ? '' : `?${query.toString()}`}`;
  const call = { method: operation.method as 'GET', url };
  // A body that is no JSON has no schema either.
  const sent = texts[operation.name];
  if (sent instanceof Sent)
    return { ...call, headers: { 'content-type': sent.type, ...sent.headers }, payload: sent.body };
  if (operation.body === undefined) return call;
  const { schema } = operation.body;
  const names = Object.keys(schema.properties ?? {}).filter((name) => isNamed('body', name));
  return { ...call, payload: filled(schema, names, (name, field) => value('body', name, field)) };
}

/** What the id in this place is the id of. */
function thing({ path, name: route }: Operation, where: string, name: string, kind: string): string {
  const special = where === 'path' ? inPaths[route] : undefined;
  if (special !== undefined) return special;
  if (where !== 'path') return name === 'holder' ? kind : (bodyNames[name] ?? name);
  const segments = path.split('/');
  const before = segments[segments.indexOf(`{${name}}`) - 1] ?? '';
  return before === '{kind}' ? kind : before.replace(/ies$/, 'y').replace(/s$/, '');
}

// What is completed can not be cancelled, nor what is accepted rejected.
const inPaths: Readonly<Record<string, string>> = {
  'POST /images/uploads/{id}/complete': 'whole-upload',
  'POST /discovered-machines/{id}/accept': 'waiting-machine',
};

const bodyNames: Readonly<Record<string, string>> = { dependsOn: 'server' };

function isId(schema: Schema | undefined): boolean {
  return schema !== undefined && schema.pattern === (Id as Schema).pattern;
}

function choicesOf({ enum: values, anyOf = [] }: Schema): readonly unknown[] {
  return values ?? anyOf.flatMap(choicesOf);
}

function filled(schema: Schema, also: readonly string[], value: (name: string, schema: Schema) => unknown) {
  const { required = [], properties = {}, minProperties = 0 } = schema;
  const names = new Set([...required, ...also]);
  for (const name of Object.keys(properties)) if (names.size < minProperties) names.add(name);
  return Object.fromEntries([...names].map((name) => [name, value(name, properties[name] ?? {})]));
}

function sample(name: string, schema: Schema, texts: Texts, where: string): unknown {
  const choices = choicesOf(schema);
  const known = texts[`${where} ${name}`] ?? texts[name];
  if (known !== undefined && (choices.length === 0 || choices.includes(known))) return known;
  if (choices.length > 0) return choices[0];
  const { type, pattern = '', format, anyOf: [first] = [] } = schema;
  if (type === undefined && first !== undefined) return sample(name, first, texts, where);
  if (type === 'integer') return schema.minimum ?? 1;
  if (type === 'boolean') return false;
  if (type === 'object') return filled(schema, [], (field, of) => sample(field, of, texts, where));
  if (type === 'array') {
    return Array.from({ length: schema.minItems ?? 0 }, () => sample(name, schema.items ?? {}, texts, where));
  }
  const fits =
    type === 'string' && format === undefined && first === undefined && new RegExp(pattern, 'u').test('walk');
  if (!fits) throw new Error(`The walk does not know a value for ${name} of ${where}.`);
  return 'walk';
}
