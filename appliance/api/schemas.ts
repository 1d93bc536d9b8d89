import { Type } from 'typebox';

/** Building blocks of the API's schemas; every object refuses what it does not know. */
export const strict = { additionalProperties: false } as const;

export const Id = Type.String({ minLength: 1, maxLength: 64, pattern: '^[A-Za-z0-9_-]+$' });
export const Name = Type.String({
  minLength: 1,
  maxLength: 63,
  pattern: '^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$',
  description: 'Lower case letters, digits, dots and hyphens.',
});
export const Hostname = Type.String({
  minLength: 1,
  maxLength: 63,
  pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
  description: 'One DNS label (RFC 1123).',
});
export const Timestamp = Type.String({ format: 'date-time', description: 'ISO 8601, UTC, milliseconds.' });
export const MaybeTimestamp = Type.Union([Timestamp, Type.Null()]);
export const IdParams = Type.Object({ id: Id }, strict);
export const Created = Type.Object({ id: Id }, strict);

export const IdempotencyKey = Type.String({
  minLength: 1,
  maxLength: 255,
  pattern: '^[ -~]+$',
  description:
    'The same request under the same key within 24 hours is done once, and gets the first answer again with ' +
    '`Idempotent-Replayed: true`.',
});

export const Problem = Type.Object({
  error: Type.Object({
    code: Type.String(),
    message: Type.String(),
    hint: Type.String(),
    fields: Type.Optional(Type.Array(Type.Object({ field: Type.String(), message: Type.String() }))),
    details: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  }),
});

/** The error answers any route may give, for the documentation. */
export const problems = {
  '4xx': Problem,
  429: Type.Object(Problem.properties, {
    description: 'This key, or without a valid one this address, asks more often than it may.',
    headers: { 'Retry-After': Type.Integer({ minimum: 1, description: 'seconds' }) },
  }),
  '5xx': Problem,
} as const;

export function iso(at: number): string {
  return new Date(at).toISOString();
}

export function maybeIso(at: number | null): string | null {
  return at === null ? null : iso(at);
}
