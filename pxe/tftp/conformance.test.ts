import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { test, type Test } from 'tap';

import { content, startServer } from './server.fixture.ts';

/** Programs that others wrote, each fetching from our server. */
const MEBIBYTE = 1024 * 1024;
/** In a process of its own, as its command line loses the port: it parses `127.0.0.1:69` as a domain name. */
const NPM_TFTP = `
  const [host, port, file, target] = process.argv.slice(1);
  require('tftp').createClient({ host, port: Number(port) }).get(file, target, (error) => { if (error) throw error; });
`;

interface Client {
  readonly title: string;
  readonly program: string;
  /** Without the program's own file: what the Debian package is called. */
  readonly debian?: string;
  arguments(port: number, file: string, target: string): string[];
  readonly expected: { blockSize: number; windowSize: number };
}

const clients: Client[] = [
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
      ...['--option', 'blksize 1428', '--option', 'windowsize 8', '--option', 'timeout 3', '--option', 'tsize 0'],
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
    arguments: (port, file, target) => ['-e', NPM_TFTP, '127.0.0.1', String(port), file, target],
    expected: { blockSize: 1468, windowSize: 4 },
  },
];

for (const client of clients) {
  test(`${client.title} gets 1 MiB byte for byte`, { skip: missing(client) }, async (t) => {
    const data = content(MEBIBYTE);
    const server = startServer(t, new Map([['loader.efi', data]]));
    const target = join(await scratch(t), 'fetched');
    await run(client.program, client.arguments(server.port, 'loader.efi', target));
    t.equal(digest(await readFile(target)), digest(data));
    t.match(await server.event('started'), client.expected);
    t.equal((await server.event('done')).bytes, data.length);
  });
}

test('a file of more than 65535 blocks rolls over', { skip: missing(clients[3]!) }, async (t) => {
  const data = content(34 * MEBIBYTE);
  const server = startServer(t, new Map([['large', data]]));
  const target = join(await scratch(t), 'fetched');
  const url = `tftp://127.0.0.1:${String(server.port)}/large`;
  await run('/usr/bin/curl', ['--silent', '--show-error', '--tftp-blksize', '512', '--output', target, url]);
  t.match(await server.event('started'), { blockSize: 512 });
  t.equal(digest(await readFile(target)), digest(data));
});

test('a refused file and a refused upload are said to the client', { skip: missing(clients[2]!) }, async (t) => {
  const server = startServer(t, new Map());
  const directory = await scratch(t);
  const get = await tftp(server.port, 'binary', 'get', 'absent', join(directory, 'fetched'));
  t.match(get, /Error code 1: no such file/);
  const put = await tftp(server.port, 'binary', 'put', process.argv[1] ?? '', 'upload');
  t.match(put, /Error code 2: this server is read-only/);
});

test(
  'netascii gives a program back as it was, for a client that undoes it',
  { skip: missing(clients[2]!) },
  async (t) => {
    const data = content(100_000);
    const server = startServer(t, new Map([['loader.efi', data]]));
    const target = join(await scratch(t), 'fetched');
    await tftp(server.port, 'ascii', 'get', 'loader.efi', target);
    t.ok((await server.event('done')).bytes > data.length, 'it was longer on the way');
    t.equal(digest(await readFile(target)), digest(data));
  },
);

async function tftp(port: number, mode: string, ...command: string[]): Promise<string> {
  const { stdout, stderr } = await run('/usr/bin/tftp', ['-m', mode, '127.0.0.1', String(port), '-c', ...command]);
  return stdout + stderr;
}

async function run(program: string, args: string[]) {
  return await promisify(execFile)(program, args, { timeout: 15_000, cwd: import.meta.dirname });
}

async function scratch(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'rs-tftp-'));
  t.teardown(() => rm(directory, { recursive: true }));
  return directory;
}

function digest(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

function missing({ program, debian = '' }: Client): string | false {
  return existsSync(program) ? false : `needs the Debian package ${debian}`;
}
