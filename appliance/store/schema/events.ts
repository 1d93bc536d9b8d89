import type { Json, Millis } from './column-types.ts';

/** `position` is given after the commit, without gaps, in an order every reader agrees on. */
export interface EventRow {
  id: string;
  position: number | null;
  type: string;
  /** Of the shape of `data`. */
  version: number;
  /** What it is about: the id that waits match on. */
  key: string;
  tenant_id: string | null;
  at: Millis;
  /** Who did it: an API key id, `saga`, `ramdisk`, … */
  actor: string;
  /** The client address it was asked for from; null for what nobody asked for through the API. */
  origin: string | null;
  data: Json;
}

/** One row: the last position given. Updating it is the lock under which positions are given. */
export interface EventPositionRow {
  id: 1;
  last: number;
}

export interface CursorRow {
  consumer: string;
  position: number;
}
