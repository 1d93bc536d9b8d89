import { readFileSync } from 'node:fs';

import { until } from './until.ts';

/** Whether `pid` runs. A zombie, which some containers keep for ever, does not. */
export function isAlive(pid: number): boolean {
  try {
    // The state follows the program's name, which stands in parentheses and may hold any character.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) !== 'Z';
  } catch {
    return false;
  }
}

/** Sends a signal; false when there is nobody left to receive it. A negative number is a process group, as in kill(2). */
export function signalPid(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

/** Ends one process by its number: asks with SIGTERM, and kills it after `graceMs`. Resolves when it is gone. */
export async function endPid(pid: number, graceMs = 5_000): Promise<void> {
  const gone = () => !isAlive(pid);
  if (!signalPid(pid, 'SIGTERM')) return;
  try {
    await until(`process ${pid} ends`, graceMs, gone);
  } catch {
    signalPid(pid, 'SIGKILL');
    await until(`process ${pid} ends after SIGKILL`, 5_000, gone);
  }
}
