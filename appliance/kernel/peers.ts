import type { Millis } from './clock.ts';

/**
 * What processes on one database tell each other, so that none has to wait for its next look and not all do what one can do.
 * It only spares time and work: a word may be lost, late, doubled or forged, and whoever hears one looks into the database.
 */
export interface Peers {
  /** False while nobody can be told: then everybody looks by itself. */
  readonly connected: boolean;
  /** Tells every other process that can be told now. */
  tell(topic: string, word: string): void;
  /**
   * Calls `listener` with what others tell, until the returned function is called. When words may have been lost meanwhile
   * it is called without one.
   */
  hear(topic: string, listener: (word: string | undefined) => void): () => void;
  /**
   * Whether this process is the one to do a work for all, for as long as `hold` from now. Two may believe so, and where
   * nobody can be asked all do: the work must bear that.
   */
  isOurs(work: string, hold: Millis): Promise<boolean>;
}

/** One process has nobody to tell. */
export const noPeers: Peers = {
  connected: false,
  tell: () => undefined,
  hear: () => () => undefined,
  isOurs: () => Promise.resolve(true),
};
