import { Compile } from 'typebox/schema';

import type { Schema } from './from-schema.ts';

/** Our own OpenAPI document, as a client reads it: what may be asked, and what may be answered. */
export interface ApiDocument {
  readonly operations: readonly Operation[];
}

export interface Operation {
  /** `POST /api/v1/servers` */
  readonly name: string;
  readonly method: string;
  /** `/api/v1/servers/{id}` */
  readonly path: string;
  readonly description: string;
  readonly parameters: readonly Parameter[];
  readonly body: Schema | undefined;
  /** Whether it makes a WebSocket of its connection. */
  readonly upgrades: boolean;
  /** What is wrong with an answer by this document; undefined when nothing is. */
  readonly faultOf: (answer: Answered) => string | undefined;
}

export interface Parameter {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header';
  readonly required?: boolean;
  readonly schema: Schema;
}

export interface Answered {
  readonly status: number;
  /** The header section as it came, lower case. */
  readonly head: string;
  readonly body: string;
}

export function readDocument(json: string): ApiDocument {
  const { paths } = JSON.parse(json) as { paths: Record<string, Record<string, OperationObject>> };
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, object]): Operation => {
      const checks = new Map(Object.entries(object.responses).map(([status, response]) => [status, checkOf(response)]));
      return {
        name: `${method.toUpperCase()} ${path}`,
        method: method.toUpperCase(),
        path,
        description: object.description ?? '',
        parameters: object.parameters ?? [],
        body: object.requestBody?.content['application/json']?.schema,
        upgrades: checks.has('101'),
        faultOf: (answer) => {
          const { status } = answer;
          const check = checks.get(String(status)) ?? checks.get(`${Math.floor(status / 100)}XX`);
          return check === undefined ? `${status} is not documented` : check(answer);
        },
      };
    }),
  );
  return { operations };
}

interface OperationObject {
  readonly description?: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { schema: Schema }>> };
  readonly responses: Readonly<Record<string, ResponseObject>>;
}

interface ResponseObject {
  readonly content?: Readonly<Record<string, { readonly schema?: Schema }>>;
}

function checkOf({ content = {} }: ResponseObject): (answer: Answered) => string | undefined {
  const [type, { schema } = {}] = Object.entries(content)[0] ?? [];
  const isJson = type === 'application/json' && schema !== undefined;
  // Compiled when it is needed: there are some two hundred, and most are never answered.
  let compiled: ReturnType<typeof Compile> | undefined;
  return ({ head, body, status }) => {
    if (type === undefined || status === 204)
      return body === '' ? undefined : `a body where none is: ${shortened(body)}`;
    if (!new RegExp(`^content-type: ${type}`, 'm').test(head)) return `not ${type}: ${shortened(head)}`;
    if (!isJson) return undefined;
    let value: unknown;
    try {
      value = JSON.parse(body);
    } catch {
      return `no JSON: ${shortened(body)}`;
    }
    compiled ??= Compile(schema as object);
    if (compiled.Check(value)) return status >= 400 ? faultOfProblem(value) : undefined;
    const [, faults] = compiled.Errors(value);
    return `${faults.map(({ instancePath, message }) => `${instancePath} ${message}`).join(', ')}: ${shortened(body)}`;
  };
}

/** What is wrong with an error beyond its form. */
export function faultOfProblem(value: unknown): string | undefined {
  const { error } = value as {
    error?: { code?: string; message?: string; hint?: string; fields?: { field: string }[] };
  };
  if (!error?.code || !error.message || !error.hint) return `an error that is none: ${JSON.stringify(value)}`;
  if (error.code === 'internal') return 'a defect, by its own words';
  const fields = (error.fields ?? []).map(({ field }) => field);
  return new Set(fields).size < fields.length ? `a field that is named twice: ${fields.join()}` : undefined;
}

/** What is wrong with the answer to a request that is wrong in this field alone; undefined when it names it, once, and no other. */
export function faultOfNaming(field: string, answer: Pick<Answered, 'status' | 'body'>): string | undefined {
  if (!isRefusedForItsForm(answer)) return `${field} is wrong, and taken: ${answer.status} ${shortened(answer.body)}`;
  const { error } = JSON.parse(answer.body) as { error: { fields?: { field: string; message: string }[] } };
  // What is missing may also leave the whole with too little.
  const named = (error.fields ?? []).filter((each) => each.field !== '/' || field === '/');
  const isRight = named.length === 1 && named[0]?.field === field && named[0].message !== '';
  return isRight ? undefined : `${field} is wrong, named: ${named.map((each) => each.field).join()}`;
}

export function isRefusedForItsForm({ status, body }: Pick<Answered, 'status' | 'body'>): boolean {
  return status === 400 && body.includes('"The request does not have the form it must have."');
}

function shortened(text: string): string {
  return text.slice(0, 300);
}
