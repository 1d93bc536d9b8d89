import { setTimeout as pause } from 'node:timers/promises';

import type { Workers } from './workers.ts';

/** An answer that says no. */
export class Refused extends Error {
  readonly status: number;

  constructor(status: number, text: string) {
    super(`${status}: ${text}`);
    this.status = status;
  }
}

export interface Ask {
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  path: string;
  key: string;
  body?: object | Buffer;
  /** Of a POST that makes something: whoever asks again must not get two. */
  idempotencyKey?: string;
}

const PATIENCE_MS = 120_000;

/**
 * Asks one worker after another, beginning with the `first`, until one answers: connections that break, and 503 (its database
 * is away), are asked again. So what is asked must be repeatable.
 */
export async function ask<T>(workers: Workers, first: number, asked: Ask): Promise<T> {
  const deadline = performance.now() + PATIENCE_MS;
  for (let turn = first; ; turn += 1) {
    const url = workers.url(turn % workers.count);
    const answer = url === undefined ? undefined : await once(url, asked).catch(() => undefined);
    if (answer !== undefined && answer.status < 400)
      return (answer.text === '' ? undefined : JSON.parse(answer.text)) as T;
    const mayCome = answer === undefined || answer.status === 429 || answer.status === 503;
    if (!mayCome) throw new Refused(answer.status, answer.text);
    if (workers.stopped || performance.now() > deadline)
      throw new Error(`nobody answered ${asked.method} ${asked.path} in time`);
    await pause(100);
  }
}

async function once(url: string, { method, path, key, body, idempotencyKey }: Ask) {
  const isBytes = Buffer.isBuffer(body);
  const response = await fetch(`${url}/api/v1${path}`, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      ...(body !== undefined && { 'content-type': isBytes ? 'application/zstd' : 'application/json' }),
      ...(idempotencyKey !== undefined && { 'idempotency-key': idempotencyKey }),
    },
    ...(body !== undefined && { body: isBytes ? new Uint8Array(body) : JSON.stringify(body) }),
    signal: AbortSignal.timeout(30_000),
  });
  return { status: response.status, text: await response.text() };
}
