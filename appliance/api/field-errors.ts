import type { FastifySchemaValidationError } from 'fastify';

import type { FieldError } from '../kernel/errors.ts';
import { escaped } from './validation.ts';

/** Ajv's complaint; `verbose` adds the schema that makes it. */
export type Complaint = FastifySchemaValidationError & {
  /** The value of the keyword that was broken. */
  readonly schema?: unknown;
  readonly parentSchema?: Readonly<Record<string, unknown>>;
};

/**
 * What is wrong with a request, one entry a field, as people say it. `part` is where the fields are: those of the body are
 * named by their JSON pointer alone, others by `/params`, `/querystring` or `/headers` before it.
 */
export function fieldErrors(complaints: readonly Complaint[], part: string): FieldError[] {
  const context = part === 'body' ? '' : `/${part}`;
  const byField = new Map<string, FieldError>();
  // The last one is about the whole, where a choice has complained about each of its branches before.
  for (const complaint of complaints.filter((each) => !isBranch(each)).toReversed()) {
    const field = `${context}${complaint.instancePath}${namedIn(complaint)}` || '/';
    byField.set(field, { field, message: sentence(complaint) });
  }
  return [...byField.values()].toReversed().slice(0, MOST_FIELDS);
}

// A body of 256 KiB may be wrong 100,000 times, and nobody reads that.
const MOST_FIELDS = 64;
const LONGEST_NAME = 64;

function isBranch({ schemaPath }: Complaint): boolean {
  return /\/anyOf\/\d+\//.test(schemaPath);
}

// Unknown and missing fields are complaints about the object; people look for the field.
function namedIn({ params }: Complaint): string {
  const name = params['missingProperty'] ?? params['additionalProperty'] ?? params['propertyName'];
  if (typeof name !== 'string') return '';
  return `/${escaped(name.slice(0, LONGEST_NAME))}`;
}

function sentence(complaint: Complaint): string {
  const { keyword, params, message = 'is wrong', parentSchema = {} } = complaint;
  const limit = String(params['limit']);
  switch (keyword) {
    case 'required':
      return 'This is missing.';
    case 'additionalProperties':
      return 'There is no such field.';
    case 'type':
      return `This must be ${kindOf(params['type'])}.`;
    case 'minimum':
      return `This must be at least ${limit}.`;
    case 'maximum':
      return `This must be at most ${limit}.`;
    case 'minLength':
      return limit === '1' ? 'This must not be empty.' : `This must have at least ${limit} characters.`;
    case 'maxLength':
      return `This may have at most ${limit} characters.`;
    case 'minItems':
      return `This must have at least ${limit} ${limit === '1' ? 'entry' : 'entries'}.`;
    case 'maxItems':
      return `This may have at most ${limit} entries.`;
    case 'uniqueItems':
      return `Entries ${String(params['j'])} and ${String(params['i'])} are the same.`;
    case 'pattern':
      return `This does not have the right form: ${described(parentSchema) ?? String(params['pattern'])}`;
    case 'format':
      return `This must be ${formats[String(params['format'])] ?? String(params['format'])}.`;
    case 'enum':
      return `This must be one of ${listed(params['allowedValues'])}.`;
    case 'const':
      return `This must be ${listed([params['allowedValue']])}.`;
    case 'anyOf':
      return choice(complaint);
    case 'nul':
      return 'This must not hold the character U+0000.';
    case 'deep':
      return 'This is nested deeper than anything here.';
    case 'unsafe':
      return 'This is larger than any number that is kept exactly (2^53).';
    default:
      return `This ${message}.`;
  }
}

interface Branch {
  readonly const?: unknown;
  readonly type?: unknown;
  readonly format?: string;
}

function choice({ schema, parentSchema = {} }: Complaint): string {
  const branches = Array.isArray(schema) ? (schema as Branch[]) : [];
  if (branches.length > 0 && branches.every((branch) => 'const' in branch)) {
    return `This must be one of ${listed(branches.map((branch) => branch.const))}.`;
  }
  const kinds = branches.map(({ format, type }) => (format === undefined ? kindOf(type) : (formats[format] ?? format)));
  const kind = `This must be ${[...new Set(kinds)].join(' or ')}`;
  const form = described(parentSchema) ?? branches.map(described).find((text) => text !== undefined);
  return form === undefined ? `${kind}.` : `${kind}: ${form}`;
}

function described(schema: object): string | undefined {
  return 'description' in schema && typeof schema.description === 'string' ? schema.description : undefined;
}

function listed(values: unknown): string {
  return (Array.isArray(values) ? values : [values]).map((value) => String(value)).join(', ');
}

function kindOf(type: unknown): string {
  const kinds = Array.isArray(type) ? (type as unknown[]) : [type];
  return kinds.map((kind) => types[String(kind)] ?? String(kind)).join(' or ');
}

const types: Readonly<Record<string, string>> = {
  string: 'text',
  integer: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  object: 'an object',
  array: 'a list',
  null: 'null',
};

const formats: Readonly<Record<string, string>> = {
  ipv4: 'an IPv4 address',
  ipv6: 'an IPv6 address',
  'date-time': 'a time (RFC 3339)',
  email: 'an e-mail address',
  uuid: 'a UUID',
};
