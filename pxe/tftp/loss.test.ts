import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { test } from 'tap';

import { startUdpProxy } from '../../lab/loss/udp-proxy.ts';
import { fetchFile } from '../../lab/tftp/fetch.ts';
import { clients, digest, missing, run, scratch, type Client } from './clients.fixture.ts';
import { content, startServer } from './server.fixture.ts';

const DATA = content(150_000);
/** Blocks. Every loss may cost a program that others wrote a timeout of its own: 5 s of atftp's, 6 s that curl negotiates. */
const LITTLE = 50;

test('every client gets its file over a path that loses 2 %, doubles 1 % and delays 1 %', async (t) => {
  const directory = await scratch(t);
  const fetchBadly = async (client: Client, index: number) => {
    const data = content(LITTLE * client.expected.blockSize);
    const server = startServer(t, new Map([['loader.efi', data]]));
    const proxy = startUdpProxy({ server, rates: { lost: 0.02, doubled: 0.01, late: 0.01 }, seed: SEED + index });
    t.teardown(() => proxy.stop());
    const target = join(directory, String(index));
    await run(client.program, client.arguments(proxy.port, 'loader.efi', target), PATIENCE);
    t.equal(digest(await readFile(target)), digest(data), client.title);
    return proxy.counts().lost;
  };
  const able = clients.filter((client) => missing(client) === false && client.retries !== false);
  const lost = await Promise.all(able.map(fetchBadly));
  t.ok(
    lost.every((count) => count > 0),
    `${lost.join(', ')} packets were lost`,
  );
});

for (const windowSize of [1, 16, 64]) {
  test(`a window of ${windowSize} gets through a path that loses 5 %`, async (t) => {
    const server = startServer(t, new Map([['loader.efi', DATA]]));
    const proxy = startUdpProxy({ server, rates: { lost: 0.05, doubled: 0.05, late: 0.05 }, seed: windowSize });
    t.teardown(() => proxy.stop());
    const source = { address: '127.0.0.1', port: proxy.port, file: 'loader.efi', blockSize: 1468, windowSize };
    t.ok((await fetchFile(source)).data.equals(DATA));
    t.ok(proxy.counts().lost > 0);
  });
}

const SEED = 42;
const PATIENCE = 40_000;
