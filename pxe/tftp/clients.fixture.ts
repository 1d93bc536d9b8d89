import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import type { Test } from 'tap';

/** In a process of its own, as its command line loses the port: it parses `127.0.0.1:69` as a domain name. */
const NPM_TFTP = `
  const [host, port, file, target, windowSize] = process.argv.slice(1);
  require('tftp').createClient({ host, port: Number(port), windowSize: Number(windowSize) }).get(file, target, (error) => { if (error) throw error; });
`;

/** A program that others wrote, fetching from our server. */
export interface Client {
  readonly title: string;
  readonly program: string;
  /** Without the program's own file: what the Debian package is called. */
  readonly debian?: string;
  arguments(port: number, file: string, target: string): string[];
  readonly expected: { blockSize: number; windowSize: number };
  /** Whether it can mend a loss at all; true when left out. */
  readonly retries?: false;
}

export const clients: readonly Client[] = [
  {
    title: 'atftp with the defaults of RFC 1350',
    program: '/usr/bin/atftp',
    debian: 'atftp',
    arguments: (port, file, target) => ['--get', '-r', file, '-l', target, '127.0.0.1', String(port)],
    expected: { blockSize: 512, windowSize: 1 },
  },
  {
    title: 'atftp with blksize, windowsize, timeout and tsize',
    program: '/usr/bin/atftp',
    debian: 'atftp',
    arguments: (port, file, target) => [
      ...['--option', 'blksize 1428', '--option', 'windowsize 8', '--option', 'timeout 1', '--option', 'tsize 0'],
      ...['--get', '-r', file, '-l', target, '127.0.0.1', String(port)],
    ],
    expected: { blockSize: 1428, windowSize: 8 },
  },
  {
    title: 'tftp-hpa',
    program: '/usr/bin/tftp',
    debian: 'tftp-hpa',
    arguments: (port, file, target) => ['-m', 'binary', '127.0.0.1', String(port), '-c', 'get', file, target],
    expected: { blockSize: 512, windowSize: 1 },
  },
  {
    title: 'curl, which asks for longer blocks than we grant',
    program: '/usr/bin/curl',
    debian: 'curl',
    arguments: (port, file, target) => [
      ...['--silent', '--show-error', '--tftp-blksize', '8192', '--output', target],
      `tftp://127.0.0.1:${String(port)}/${file}`,
    ],
    expected: { blockSize: 1468, windowSize: 1 },
  },
  {
    title: 'the npm package tftp, which asks for a window of 4',
    program: process.execPath,
    arguments: (port, file, target) => ['-e', NPM_TFTP, '127.0.0.1', String(port), file, target, '4'],
    expected: { blockSize: 1468, windowSize: 4 },
    // After a gap it counts its windows from where they began before, and drops what RFC 7440 §4 has us send.
    retries: false,
  },
  {
    title: 'the npm package tftp, block by block',
    program: process.execPath,
    arguments: (port, file, target) => ['-e', NPM_TFTP, '127.0.0.1', String(port), file, target, '1'],
    expected: { blockSize: 1468, windowSize: 1 },
  },
];

export async function run(program: string, args: string[], timeout = 15_000) {
  return await promisify(execFile)(program, args, { timeout, cwd: import.meta.dirname });
}

export async function scratch(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'rs-tftp-'));
  t.teardown(() => rm(directory, { recursive: true }));
  return directory;
}

export function digest(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

export function missing({ program, debian = '' }: Client): string | false {
  return existsSync(program) ? false : `needs the Debian package ${debian}`;
}
