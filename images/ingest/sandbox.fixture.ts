import { runInSandbox } from './sandbox.ts';
import type { SandboxEnd, Sandboxed } from './sandbox.ts';

/** A program in the sandbox with room for everything, but for what is said. */
export function boxed(program: string, args: readonly string[], other: Partial<Sandboxed> = {}): Promise<SandboxEnd> {
  const limits = { memoryBytes: 1024 ** 3, cpuSeconds: 20, fileBytes: 1024 ** 2 };
  const signal = new AbortController().signal;
  return runInSandbox({ program, args, readable: {}, writable: {}, limits, signal, ...other });
}

/** Why programs can't be shut in here; undefined when they can. */
export async function sandboxMissing(): Promise<string | undefined> {
  return boxed('/usr/bin/true', []).then(
    () => undefined,
    (error: unknown) => String(error),
  );
}
