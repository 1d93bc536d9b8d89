import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { test } from 'tap';

import { startUdpProxy } from '../../lab/loss/udp-proxy.ts';
import { fetchFile } from '../../lab/tftp/fetch.ts';
import { until } from '../../lab/process/until.ts';
import { SECOND } from '../../appliance/kernel/clock.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';
import { content, startServer } from './server.fixture.ts';

const MEBIBYTE = 1024 * 1024;
const LOADER = content(60_000);
const FILES = new Map([['loader.efi', LOADER]]);
/** Of clients that nothing is lost for: what they get, they got at the first try. */
const patience = 20 * SECOND;

test('clients that take the largest windows and never answer cost little memory', async (t) => {
  const clock = new ManualClock();
  const server = startServer(t, new Map([['loader.efi', content(4 * MEBIBYTE)]]), { clock });
  const before = await heldMemory();
  const silent = range(200).map((client) => slowClient(server.port, addressOf(client), 64));
  t.teardown(() => silent.forEach(({ close }) => close()));
  await until('all to have begun', 20_000, () => count(server, 'started') === 200);
  for (const client of silent) client.acknowledge();
  await until('their first window', 20_000, () => silent.every(({ heard }) => heard() > 1));
  for (let second = 0; second < 3; second++) await clock.advance(1 * SECOND);
  const mebibytes = ((await heldMemory()) - before) / MEBIBYTE;
  // Their windows alone, kept as packets, would be 18 MiB.
  t.ok(mebibytes < 8, `${mebibytes.toFixed(1)} MiB`);
});

test('500 clients at once get the file whole', async (t) => {
  const server = startServer(t, FILES);
  const source = { address: '127.0.0.1', port: server.port, file: 'loader.efi', blockSize: 1468, patience };
  const fetched = await Promise.all(range(500).map((client) => fetchFile({ ...source, from: addressOf(client) })));
  t.equal(fetched.filter(({ data }) => data.equals(LOADER)).length, 500);
  // One that was sent its last block twice is told that its client has gone, which then had everything.
  const ended = () => count(server, 'done') + count(server, 'stopped');
  await until('every transfer to have ended', 20_000, () => ended() === 500);
  t.equal(count(server, 'started'), 500, 'nobody needed a second one');
  t.equal(count(server, 'refused'), 0);
});

test('clients that are stuck or slow hold nobody up', async (t) => {
  // Time stands still: nothing that gets on does so by anybody's timer.
  const server = startServer(t, FILES, { clock: new ManualClock() });
  const slow = range(400).map((client) => slowClient(server.port, addressOf(client)));
  t.teardown(() => slow.forEach(({ close }) => close()));
  await until('the slow ones to have begun', 20_000, () => count(server, 'started') === 400);

  const source = { address: '127.0.0.1', port: server.port, file: 'loader.efi', blockSize: 1468, patience };
  const quick = range(100).map((client) => fetchFile({ ...source, from: addressOf(400 + client) }));
  const fetched = await Promise.all(quick);
  t.equal(fetched.filter(({ data }) => data.equals(LOADER)).length, 100);
  // Half of the slow ones take one block now and then, and are served as before.
  for (const [index, client] of slow.entries()) {
    if (index % 2 === 0) client.acknowledge();
  }
  await until('their next block', 5_000, () => slow.every(({ heard }, index) => heard() === 2 - (index % 2)));
  t.equal(count(server, 'done'), 100);
  t.equal(count(server, 'lost') + count(server, 'stopped'), 0);
});

test('a path that doubles every packet does not make us send a block twice', async (t) => {
  const server = startServer(t, FILES, { clock: new ManualClock() });
  let sent = 0;
  const rewrite = (answer: Buffer) => {
    sent += 1;
    return [answer];
  };
  const proxy = startUdpProxy({ server, rates: { doubled: 1 }, rewrite });
  t.teardown(() => proxy.stop());
  const { data } = await fetchFile({ address: '127.0.0.1', port: proxy.port, file: 'loader.efi' });
  t.ok(data.equals(LOADER));
  t.equal(sent, Math.floor(LOADER.length / 512) + 1);
});

test('a file of more than 65535 blocks comes whole by windows', async (t) => {
  const data = content(70_000 * 16 + 3);
  const server = startServer(t, new Map([['large', data]]));
  const source = { address: '127.0.0.1', port: server.port, file: 'large', blockSize: 16, windowSize: 64 };
  t.ok((await fetchFile(source)).data.equals(data));
});

/** Eight clients an address: what one may have. */
function addressOf(client: number): string {
  return `127.0.1.${1 + Math.floor(client / 8)}`;
}

/** Asks, and then is silent until it is told to acknowledge a block. */
function slowClient(server: number, address: string, windowSize = 1) {
  const socket = openDeviceSocket({ address, port: 0 });
  let heard = 0;
  let last: { block: number; port: number } | undefined;
  socket.on('message', (packet, { port }) => {
    heard += 1;
    last = { block: packet[1] === 6 ? 0 : packet.readUInt16BE(2), port };
  });
  const options = windowSize === 1 ? '' : `blksize\x001468\0windowsize\0${windowSize}\0`;
  socket.send(`\0\x01loader.efi\0octet\0${options}`, server, '127.0.0.1');
  return {
    heard: () => heard,
    acknowledge() {
      if (last !== undefined) socket.send(Buffer.of(0, 4, last.block >> 8, last.block), last.port, '127.0.0.1');
    },
    close: () => socket.close(),
  };
}

function count({ events }: ReturnType<typeof startServer>, kind: string): number {
  return events.filter((event) => event.kind === kind).length;
}

/** Bytes that are in use, not what waits to be collected. */
async function heldMemory(): Promise<number> {
  setFlagsFromString('--expose-gc');
  // What buffers held is given back in turns of their own.
  for (let turn = 0; turn < 5; turn++) {
    (runInNewContext('gc') as () => void)();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

function range(length: number): number[] {
  return Array.from({ length }, (_, index) => index);
}
