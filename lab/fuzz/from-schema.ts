import type { Dice } from './dice.ts';
import { matching } from './from-pattern.ts';

/** What our OpenAPI document uses of JSON Schema 2020-12. */
export interface Schema {
  readonly type?: string;
  readonly anyOf?: readonly Schema[];
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly format?: string;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly uniqueItems?: boolean;
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly minProperties?: number;
  readonly additionalProperties?: boolean | Schema;
}

/** What is known of the world: values that mean something there, tried in the field of this name. */
export type Known = (schema: Schema, dice: Dice, name: string) => unknown;

/** A value of the form that a schema demands, for the field of this name. */
export function valid(schema: Schema, dice: Dice, known: Known, name = ''): unknown {
  const meant = known(schema, dice, name);
  if (meant !== undefined) return meant;
  if (schema.enum !== undefined) return dice.pick(schema.enum);
  if (schema.const !== undefined) return schema.const;
  if (schema.anyOf !== undefined)
    return valid({ ...schema, ...dice.pick(schema.anyOf), anyOf: undefined! }, dice, known, name);
  switch (schema.type) {
    case 'string':
      return text(schema, dice);
    case 'integer':
      return whole(schema, dice);
    case 'number':
      return dice.percent(50) ? whole(schema, dice) : Math.min(schema.maximum ?? Infinity, (schema.minimum ?? 0) + 0.5);
    case 'boolean':
      return dice.percent(50);
    case 'null':
      return null;
    case 'array': {
      const { items = {}, minItems = 0, maxItems = minItems + 3 } = schema;
      const length = minItems + dice.below(Math.min(3, maxItems - minItems) + 1);
      const entries = Array.from({ length }, () => valid(items, dice, known, name));
      if (!schema.uniqueItems) return entries;
      return [...new Map(entries.map((entry) => [JSON.stringify(entry), entry])).values()];
    }
    case 'object': {
      const { properties = {}, required = [], minProperties = 0 } = schema;
      // Often what is required alone: most that is added may be refused for what it means.
      const share = dice.pick([0, 0, 60]);
      const few = Object.keys(properties).filter((each) => required.includes(each) || dice.percent(share));
      const names = few.length < minProperties ? Object.keys(properties) : few;
      return Object.fromEntries(names.map((each) => [each, valid(properties[each]!, dice, known, each)]));
    }
    default:
      return dice.pick([1, 'x', null, true, [], {}]);
  }
}

function text({ pattern, format, minLength = 0, maxLength = 200 }: Schema, dice: Dice): string {
  if (format !== undefined)
    return format === 'ipv4' && dice.percent(50) ? ipv4(dice) : dice.pick(formats[format] ?? ['x']);
  if (pattern === undefined) return textOf(minLength + dice.length(maxLength - minLength), dice);
  const found = matching(pattern, dice).slice(0, maxLength);
  if (found.length >= minLength && new RegExp(pattern, 'u').test(found)) return found;
  // Too short as it fell, or cut where it may not end: again, and again by the same dice.
  return text({ pattern, minLength, maxLength }, dice);
}

function ipv4(dice: Dice): string {
  return `10.1.${dice.below(4)}.${dice.below(256)}`;
}

const formats: Readonly<Record<string, readonly string[]>> = {
  ipv4: ['10.1.0.7', '10.1.0.99', '10.1.0.100', '0.0.0.0', '255.255.255.255', '192.0.2.1'],
  ipv6: ['fd00::1', '::', '::ffff:10.1.0.7', 'fe80::1', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
  'date-time': [
    '2026-01-01T00:00:00.000Z',
    '1970-01-01T00:00:00Z',
    '2026-01-01T00:00:00+14:00',
    '9999-12-31T23:59:59Z',
  ],
  email: ['a@example.net'],
};

function textOf(length: number, dice: Dice): string {
  let text = '';
  while (text.length < length) text += dice.pick(pieces);
  return text.slice(0, length);
}

// All of the basic plane: a cut leaves whole characters, and as many as were counted.
const pieces = [
  'aaaaaaaa',
  '        ',
  '\u202eevil\u0007!!',
  '<b>&\'"`$(',
  '../../..',
  '\r\n\r\nX: ',
  '%00%n%s;',
  '☃ ☃ ☃ ☃ ',
];

function whole({ minimum = -10, maximum = minimum + 1_000 }: Schema, dice: Dice): number {
  return dice.percent(30)
    ? dice.pick([minimum, maximum])
    : minimum + dice.below(Math.min(maximum - minimum, 2 ** 31) + 1);
}
