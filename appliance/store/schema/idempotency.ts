import type { Millis } from './column-types.ts';

/** A POST that came with an Idempotency-Key, and what it was answered. Kept for a day. */
export interface IdempotencyKeyRow {
  /** The API key that asked. */
  caller: string;
  /** Method and pattern: `POST /api/v1/machines/:id/inspect`. */
  route: string;
  key: string;
  /** HMAC-SHA256 of what was asked, hex. */
  digest: string;
  /** begun: what it does outside may have been done. done: what it changes here is committed. answered: with what follows. */
  state: 'begun' | 'done' | 'answered';
  status: number | null;
  /** The body, sealed under a key that follows from the caller's; null for none. */
  answer: string | null;
  created_at: Millis;
}
