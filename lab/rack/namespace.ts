import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';

import { isAlive, signalPid } from '../process/pid.ts';
import { run } from '../process/run.ts';

const PREFIX = 'rs-rack-';

/** A rack's network namespace carries the process id of whoever opened it, so that an orphan can be told. */
export function namespaceName(rack: string): string {
  return `${PREFIX}${rack}-${process.pid}`;
}

/** Makes a namespace and runs `commands`, each an `ip` command, in it. */
export async function addNamespace(netns: string, commands: readonly string[]): Promise<void> {
  await run(['ip', 'netns', 'add', netns]);
  await run(['ip', '-n', netns, '-batch', '-'], { input: commands.join('\n') + '\n' });
}

/**
 * Kills every process in a namespace and removes it; one that is not there is left so. Synchronous, because it must also
 * work while this process is dying. Interfaces go with their namespace.
 */
export function removeNamespace(netns: string): void {
  for (let left = processesIn(netns); left.length > 0; left = processesIn(netns)) {
    for (const pid of left) signalPid(pid, 'SIGKILL');
  }
  spawnSync('ip', ['netns', 'delete', netns]);
}

/** Removes what racks left behind whose process was killed before it could clean up. */
export function removeOrphans(): void {
  for (const netns of namespaces()) {
    const owner = /^rs-rack-.*-(\d+)$/.exec(netns)?.[1];
    if (owner !== undefined && !isAlive(Number(owner))) removeNamespace(netns);
  }
}

function namespaces(): string[] {
  try {
    return readdirSync('/run/netns');
  } catch {
    return []; // nobody ever made one on this machine
  }
}

function processesIn(netns: string): number[] {
  const { stdout } = spawnSync('ip', ['netns', 'pids', netns], { encoding: 'utf8' });
  return stdout.split('\n').filter(Boolean).map(Number);
}
