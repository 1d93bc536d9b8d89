import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { test } from 'tap';

import { clients, digest, missing, run, scratch } from './clients.fixture.ts';
import { content, startServer } from './server.fixture.ts';

const MEBIBYTE = 1024 * 1024;
const [, , hpa, curl] = clients;

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

test('a file of more than 65535 blocks rolls over', { skip: missing(curl!) }, async (t) => {
  const data = content(34 * MEBIBYTE);
  const server = startServer(t, new Map([['large', data]]));
  const target = join(await scratch(t), 'fetched');
  const url = `tftp://127.0.0.1:${String(server.port)}/large`;
  await run('/usr/bin/curl', ['--silent', '--show-error', '--tftp-blksize', '512', '--output', target, url]);
  t.match(await server.event('started'), { blockSize: 512 });
  t.equal(digest(await readFile(target)), digest(data));
});

test('a refused file and a refused upload are said to the client', { skip: missing(hpa!) }, async (t) => {
  const server = startServer(t, new Map());
  const directory = await scratch(t);
  const get = await tftp(server.port, 'binary', 'get', 'absent', join(directory, 'fetched'));
  t.match(get, /Error code 1: no such file/);
  const put = await tftp(server.port, 'binary', 'put', process.argv[1] ?? '', 'upload');
  t.match(put, /Error code 2: this server is read-only/);
});

test('netascii gives a program back as it was, for a client that undoes it', { skip: missing(hpa!) }, async (t) => {
  const data = content(100_000);
  const server = startServer(t, new Map([['loader.efi', data]]));
  const target = join(await scratch(t), 'fetched');
  await tftp(server.port, 'ascii', 'get', 'loader.efi', target);
  t.ok((await server.event('done')).bytes > data.length, 'it was longer on the way');
  t.equal(digest(await readFile(target)), digest(data));
});

async function tftp(port: number, mode: string, ...command: string[]): Promise<string> {
  const { stdout, stderr } = await run('/usr/bin/tftp', ['-m', mode, '127.0.0.1', String(port), '-c', ...command]);
  return stdout + stderr;
}
