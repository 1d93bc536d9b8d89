import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';

import { run } from '../process/run.ts';
import { walk } from './files.ts';
import type { Job, Outcome } from './outcome.ts';

/** What the code must pass before it is run: style, form, types, and the shell programs. */
export function checks(root: string): Job[] {
  const shell = () => walk(root).filter((file) => isShell(join(root, file)));
  return [
    check(root, 'eslint', () => ['eslint', '.']),
    check(root, 'tsc', () => ['tsc', '--noEmit']),
    check(root, 'prettier', () => ['prettier', '--check', '--log-level', 'warn', '.']),
    check(root, 'shellcheck', () => ['shellcheck', '--external-sources', ...shell()]),
  ];
}

function check(root: string, title: string, command: () => string[]): Job {
  return {
    title,
    async run(): Promise<Outcome> {
      try {
        await run(command(), { cwd: root, withinMs: 300_000, env: { PATH: withOwnPrograms(root), NO_COLOR: '1' } });
        return { passed: 1, failures: [], skipped: [] };
      } catch (error) {
        return verdict(title, error as Error);
      }
    },
  };
}

function verdict(title: string, error: Error): Outcome {
  const missing = (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
  if (missing) return { passed: 0, failures: [], skipped: [{ title, reason: `${title} is not installed` }] };
  return { passed: 0, failures: [{ title, diagnostics: error.message }], skipped: [] };
}

function withOwnPrograms(root: string): string {
  return `${join(root, 'node_modules/.bin')}:${process.env.PATH ?? ''}`;
}

function isShell(path: string): boolean {
  if (path.endsWith('.sh')) return true;
  const start = Buffer.alloc(32);
  const file = openSync(path, 'r');
  readSync(file, start);
  closeSync(file);
  // By its first line: what runs it, or, where it is sourced, what checks it.
  return /^(#! ?\/(usr\/)?bin\/(env )?(sh|bash|dash)\b|# shellcheck shell=)/.test(start.toString('latin1'));
}
