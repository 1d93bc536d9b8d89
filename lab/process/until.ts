import { setTimeout as pause } from 'node:timers/promises';

type Truthy<T> = Exclude<T, undefined | null | false | 0 | ''>;

/**
 * Waits until `condition` answers with something true, and resolves to that. It is asked at once and then every 50 ms;
 * after `withinMs` this rejects, naming `what` was waited for. What `condition` throws ends the waiting.
 */
export async function until<T>(what: string, withinMs: number, condition: () => T | Promise<T>): Promise<Truthy<T>> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const answer = await condition();
    if (answer) return answer as Truthy<T>;
    if (performance.now() >= deadline) throw new Error(`waited ${withinMs / 1000} s in vain: ${what}`);
    await pause(50);
  }
}
