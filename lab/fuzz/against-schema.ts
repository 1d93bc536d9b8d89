import type { Schema } from './from-schema.ts';

/** A value in which one place is wrong. */
export interface Wrong {
  readonly value: unknown;
  /** The JSON pointer of that place. */
  readonly field: string;
  /** In what way: `too long`, `null` … */
  readonly way: string;
}

/** Every way in which a schema says that a valid value would be wrong in one place: itself, or something in it. */
export function wrongs(schema: Schema, value: unknown, field = ''): Wrong[] {
  const here = wrongValues(schema, value).map(([way, wrong]) => ({ value: wrong, field, way }));
  if (Array.isArray(value)) return [...here, ...wrongEntries(schema, value, field)];
  const isObject = schema.type === 'object' && typeof value === 'object' && value !== null;
  return isObject ? [...here, ...wrongFields(schema, value as Record<string, unknown>, field)] : here;
}

// The first and the last: what is between them is read as they are.
function wrongEntries({ items = {} }: Schema, value: readonly unknown[], field: string): Wrong[] {
  return [...new Set([0, value.length - 1])]
    .filter((index) => index in value)
    .flatMap((index) =>
      wrongs(items, value[index], `${field}/${index}`).map((inner) => ({
        ...inner,
        value: value.with(index, inner.value),
      })),
    );
}

function wrongFields(schema: Schema, value: Record<string, unknown>, field: string): Wrong[] {
  const { properties = {}, required = [], additionalProperties } = schema;
  const unknown = additionalProperties === false ? strangeNames.filter((name) => !Object.hasOwn(properties, name)) : [];
  const missing = required.filter((name) => properties[name]?.default === undefined);
  return [
    ...unknown.map((name) => ({ value: { ...value, [name]: 1 }, field: `${field}/${escaped(name)}`, way: 'unknown' })),
    ...missing.map((name) => {
      const { [name]: _, ...rest } = value;
      return { value: rest, field: `${field}/${name}`, way: 'missing' };
    }),
    ...Object.entries(value).flatMap(([name, part]) =>
      wrongs(properties[name]!, part, `${field}/${escaped(name)}`).map((inner) => ({
        ...inner,
        value: { ...value, [name]: inner.value },
      })),
    ),
  ];
}

// RFC 6901, §3.
function escaped(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}

const strangeNames = ['unknown', 'constructor', 'hasOwnProperty', 'a/b~c', '', '☃', 'role', 'tenant_id'];

/** What may not stand in the place of a value, and why. */
function wrongValues(schema: Schema, value: unknown): [way: string, value: unknown][] {
  const {
    type,
    anyOf,
    minLength = 0,
    maxLength,
    minimum,
    maximum,
    minItems = 0,
    maxItems,
    minProperties = 0,
    required = [],
  } = schema;
  // A branch of an IP address or the like has a format alone: text, by what stands around it.
  const kinds = (anyOf ?? [schema]).map((branch) => branch.type ?? type);
  if (kinds.includes(undefined)) return [];
  const takes = (kind: string) => kinds.includes(kind) || (kind === 'integer' && kinds.includes('number'));
  const found: [string, unknown][] = samples.filter(([kind]) => !takes(kind));
  if (takes('integer')) found.push(['beyond 2^53', 2 ** 53], ['huge', 1e300], ['huge and negative', -1e300]);
  if (takes('integer') && !kinds.includes('number')) found.push(['a fraction', 0.5]);
  if (takes('string')) found.push(['U+0000', 'a\0b']);
  if (takes('string') && isNarrow(schema)) found.push(['another text', '\u202e\u0007 ☃']);
  if (type === 'string' && minLength > 0) found.push(['too short', 'x'.repeat(minLength - 1)]);
  if (type === 'string' && maxLength !== undefined) found.push(['too long', 'x'.repeat(maxLength + 1)]);
  if (minimum !== undefined) found.push(['too small', minimum - 1]);
  if (maximum !== undefined) found.push(['too large', maximum + 1]);
  if (type === 'object' && minProperties > 0 && required.length === 0) found.push(['empty', {}]);
  if (!Array.isArray(value)) return found;
  const [first] = value as unknown[];
  if (minItems > 0) found.push(['too few', value.slice(0, minItems - 1)]);
  if (first === undefined) return found;
  if (maxItems !== undefined) found.push(['too many', Array.from({ length: maxItems + 1 }, () => first)]);
  if (schema.uniqueItems) found.push(['the same twice', [first, first]]);
  return found;
}

const samples: readonly [kind: string, value: unknown][] = [
  ['string', 'x'],
  ['string', '1'],
  ['integer', 7],
  ['boolean', true],
  ['null', null],
  ['array', []],
  ['array', [[]]],
  ['object', {}],
  ['object', { length: 1 }],
];

/** Whether it takes some texts and not others. */
function isNarrow({ anyOf, ...schema }: Schema): boolean {
  const { pattern, format, enum: choices, const: only } = schema;
  if ([pattern, format, choices, only].some((rule) => rule !== undefined)) return true;
  return anyOf?.every(isNarrow) ?? false;
}

/** Texts in a URL that are no value of a schema's, however they are read. */
export function wrongTexts({ type, minimum, maximum, maxLength }: Schema): string[] {
  if (type === 'string') return ['\0', 'a\0', ...(maxLength === undefined ? [] : ['x'.repeat(maxLength + 1)])];
  const beyond = [...(minimum === undefined ? [] : [minimum - 1]), ...(maximum === undefined ? [] : [maximum + 1])];
  return ['x', '0.5', '1e300', '1e400', 'NaN', '--1', ...beyond.map(String)];
}
