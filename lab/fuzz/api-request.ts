import { createHash } from 'node:crypto';
import { zstdCompressSync } from 'node:zlib';

import { tinyDisk } from '../disk/tiny-disk.ts';
import type { Operation } from './api-document.ts';
import type { Dice } from './dice.ts';
import type { Known, Schema } from './from-schema.ts';
import { valid } from './from-schema.ts';

/** What whoever attacks has come to know: two keys, and what there is, by what it is: `region` → its name and id. */
export interface World {
  readonly operator: string;
  readonly member: string;
  readonly known: Readonly<Record<string, readonly unknown[]>>;
}

/** A request, before it is bytes. */
export interface Asked {
  method: string;
  path: string;
  query: (readonly [string, string])[];
  headers: (readonly [string, string])[];
  body: string | Buffer;
}

/** A request of the form that the document asks for, mostly of somebody who may. */
export function ask(operation: Operation, dice: Dice, world: World): Asked {
  const known = knownIn(world);
  const { method, path, parameters, body } = operation;
  const headers: [string, string][] = [['Host', 'api.example']];
  const who = dice.below(7);
  const key = who < 4 ? world.operator : who < 6 ? world.member : '';
  if (key !== '') headers.push(['Authorization', `Bearer ${key}`]);
  if (operation.upgrades) headers.push(...webSocket);
  const query: [string, string][] = [];
  let target = path;
  for (const { name, in: place, required = false, schema } of parameters) {
    if (!required && place !== 'path' && !dice.percent(40)) continue;
    const meant = place === 'path' ? thingAt(path, name) : name;
    const isKey = place === 'header' && schema.type === 'string';
    const value = isKey ? `k-${dice.below(300)}` : String(valid(schema, dice, known, meant));
    if (place === 'path') target = target.replace(`{${name}}`, encodeURIComponent(value));
    else if (place === 'query') query.push([name, value]);
    else headers.push([name, value]);
  }
  const asked: Asked = { method, path: target, query, headers, body: '' };
  if (body !== undefined) withJson(asked, valid(body, dice, known));
  const type = bodyTypes[operation.name];
  if (type === undefined) return asked;
  headers.push(['Content-Type', type]);
  asked.body = dice.bytes(dice.length(200));
  if (type === 'application/zstd') {
    if (dice.percent(50)) asked.body = zstdCompressSync(dice.percent(50) ? tinyDisk() : asked.body);
    const sha256 = createHash('sha256').update(asked.body).digest('hex');
    if (dice.percent(80)) asked.query = query.map(([name, value]) => [name, name === 'sha256' ? sha256 : value]);
  }
  return asked;
}

/** Of the bodies that are no JSON, which our document has no schema for. */
export const bodyTypes: Readonly<Record<string, string>> = {
  'POST /api/v1/images': 'application/zstd',
  'PATCH /api/v1/images/uploads/{id}': 'application/offset+octet-stream',
};

// RFC 6455, §1.3.
const webSocket: readonly [string, string][] = [
  ['Connection', 'Upgrade'],
  ['Upgrade', 'websocket'],
  ['Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ=='],
  ['Sec-WebSocket-Version', '13'],
];

export function withJson(asked: Asked, value: unknown): void {
  asked.headers = asked.headers.filter(([name]) => name !== 'Content-Type');
  asked.headers.push(['Content-Type', 'application/json']);
  asked.body = JSON.stringify(value);
}

/** Values that mean something in this world, in fields that are named for what they are. */
export function knownIn(world: Pick<World, 'known'>): Known {
  return (schema, dice, name) => {
    const { type, anyOf, enum: choices, pattern, format, minLength = 0 } = schema;
    const fitting = world.known[fieldNames[name] ?? name]?.filter((value) => fits(schema, value));
    if (fitting !== undefined && fitting.length > 0 && dice.percent(85)) return dice.pick(fitting);
    if (type !== 'string') return undefined;
    if (pattern?.startsWith('^(ssh-')) return `ssh-ed25519 ${'A'.repeat(68)} somebody`;
    const isAnything = [pattern, format, choices, anyOf].every((rule) => rule === undefined) && minLength < 12;
    return isAnything && dice.percent(20) ? `10.${dice.below(200)}.0.0/24` : undefined;
  };
}

/** Enough of a check for what is known: texts, objects of texts, and whole numbers. */
function fits({ type, anyOf, enum: choices, pattern = '', properties = {} }: Schema, value: unknown): boolean {
  if (anyOf !== undefined) return anyOf.some((branch) => fits(branch, value));
  if (choices !== undefined) return choices.includes(value);
  if (typeof value === 'string') return type === 'string' && new RegExp(pattern, 'u').test(value);
  if (typeof value === 'number') return type === 'integer';
  return type === 'object' && Object.keys(value as object).every((name) => name in properties);
}

const fieldNames: Readonly<Record<string, string>> = { dependsOn: 'server' };

/** What a parameter in a path is the name of: `/machines/{id}` → `machine`. */
function thingAt(path: string, parameter: string): string {
  const segments = path.split('/');
  const before = segments[segments.indexOf(`{${parameter}}`) - 1] ?? '';
  return before === '{kind}' ? 'project' : singular(before);
}

/** `access-entries` → `access-entry` */
export function singular(collection: string): string {
  return collection.replace(/ies$/, 'y').replace(/s$/, '');
}

/** As it goes over the wire; `length` where the header says another one than the body has. */
export function bytesOf({ method, path, query, headers, body }: Asked, length = body.length): Buffer {
  const bytes = Buffer.from(body);
  const target =
    query.length === 0 ? path : `${path}?${query.map((pair) => pair.map(encodeURIComponent).join('=')).join('&')}`;
  const hasBody = bytes.length > 0 || headers.some(([name]) => name === 'Content-Type');
  const said = length === body.length ? bytes.length : length;
  const all = [...headers, ...(hasBody ? [['Content-Length', String(said)] as const] : [])];
  const lines = [`${method} ${target} HTTP/1.1`, ...all.map(([name, value]) => `${name}: ${value}`)];
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), bytes]);
}

/** The body in one chunk, of a size that may be a lie. */
export function chunked(asked: Asked, dice: Dice): Buffer {
  const bytes = Buffer.from(asked.body);
  const size = dice.pick([bytes.length.toString(16), '0', 'ffffffffffffffff', '-1', 'x']);
  return Buffer.concat([
    bytesOf({ ...asked, body: '' }),
    Buffer.from(`${size}\r\n`),
    bytes,
    Buffer.from('\r\n0\r\n\r\n'),
  ]);
}
