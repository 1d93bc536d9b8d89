import type { ServerResponse } from 'node:http';

import type { Turnstile } from '../../appliance/kernel/turnstile.ts';

/**
 * Sends bodies that come in pieces, several of them in one system call and the next when the kernel has taken those. A client
 * that stalls keeps in memory what was given last, all together `MOST_LARGE` such batches, and else a piece each. Every batch
 * passes the turnstile: clients take turns, and none of them the event loop.
 */
export class PieceSender {
  readonly #turns: Turnstile;
  /** Batches that are put together or on their way. */
  #large = 0;

  constructor(turns: Turnstile) {
    this.#turns = turns;
  }

  /**
   * Answers with these pieces, past Fastify, whose streams write each piece by itself. `begin` writes the head, `content-length`
   * included, when the first of them are there. Resolves when they are out or the client is gone. Rejects when `pieces` does: with
   * nothing begun yet, or the answer cut.
   */
  async send(response: ServerResponse, begin: () => void, pieces: AsyncIterator<Buffer>): Promise<void> {
    try {
      while (await this.#sendSome(response, begin, pieces));
    } catch (error) {
      if (response.headersSent) response.destroy();
      throw error;
    } finally {
      await pieces.return?.();
    }
  }

  /** False when that was the last of them, or nobody is there to take it. */
  async #sendSome(response: ServerResponse, begin: () => void, pieces: AsyncIterator<Buffer>): Promise<boolean> {
    const isLarge = this.#large < MOST_LARGE;
    if (isLarge) this.#large++;
    try {
      const most = isLarge ? BATCH : 1;
      const batch = await take(pieces, most);
      const isLast = batch.length < most;
      await this.#turns.pass();
      if (!response.headersSent) begin();
      if (response.destroyed) return false;
      if (!write(response, batch, isLast)) await taken(response);
      return !isLast;
    } finally {
      if (isLarge) this.#large--;
    }
  }
}

/** A whole chunk: to one client, whose request follows the last byte, twice as fast as a piece each time. */
const BATCH = 17;
const MOST_LARGE = 64;

async function take(pieces: AsyncIterator<Buffer>, most: number): Promise<Buffer[]> {
  const batch: Buffer[] = [];
  while (batch.length < most) {
    const next = await pieces.next();
    if (next.done === true) break;
    batch.push(next.value);
  }
  return batch;
}

/** False when the kernel has not taken them yet. The end goes with the last: the client's next request waits for it. */
function write(response: ServerResponse, batch: readonly Buffer[], isLast: boolean): boolean {
  response.cork();
  const taken = batch.map((piece) => response.write(piece));
  if (isLast) response.end();
  else response.uncork();
  return taken.every(Boolean);
}

function taken(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const settle = (): void => {
      for (const event of TAKEN) response.off(event, settle);
      resolve();
    };
    for (const event of TAKEN) response.on(event, settle);
  });
}

/** There is room again; the end is out; the client is gone. */
const TAKEN = ['drain', 'finish', 'close'] as const;
