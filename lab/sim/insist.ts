import { setTimeout as pause } from 'node:timers/promises';

import { ApiError } from '../site/api-client.ts';

/**
 * Again, half a second later, for as long as the API is being restarted, or says that it was asked too often; a minute at most. What is
 * asked must be repeatable.
 */
export async function insist<T>(ask: () => Promise<T>): Promise<T> {
  for (let left = 120; ; left--) {
    try {
      return await ask();
    } catch (error) {
      const mayCome = error instanceof ApiError ? error.status === 429 : hasErrno(error);
      if (!mayCome || left === 0) throw error;
      await pause(500);
    }
  }
}

// Refused, reset, or hung up by the bridge to the API: nobody is there.
function hasErrno(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('E');
}
