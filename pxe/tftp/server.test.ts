import type { RemoteInfo } from 'node:dgram';
import { EventEmitter, once } from 'node:events';

import { test, type Test } from 'tap';

import { SECOND } from '../../appliance/kernel/clock.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';
import { seededRandom } from '../../lab/loss/seeded-random.ts';
import { bareName } from './server.ts';
import { content, startServer } from './server.fixture.ts';

const FILES = new Map([['loader.efi', content(5 * 512 + 10)]]);

test('a path is taken for its last part, and trailing bytes of a DHCP packet are cut off', (t) => {
  t.equal(bareName('loader.efi'), 'loader.efi');
  t.equal(bareName('/loader.efi'), 'loader.efi');
  t.equal(bareName('//boot/x64/loader.efi'), 'loader.efi');
  t.equal(bareName('\\Boot\\x64\\loader.efi'), 'loader.efi');
  t.equal(bareName('loader.efi\xff'), 'loader.efi');
  t.equal(bareName('loader.efi\xffa/b\x0fc'), 'loader.efi');
  t.equal(bareName('/etc/passwd/'), '');
  t.end();
});

test('a transfer has a port of its own, and its peer alone moves it', async (t) => {
  const server = startServer(t, FILES);
  const client = peer(t);
  client.send(read('/loader.efi'), server.port);
  const first = await client.next();
  t.equal(first.text, '\0\x03\0\x01' + FILES.get('loader.efi')!.toString('latin1', 0, 512));
  t.not(first.port, server.port);

  const strangers = [peer(t), peer(t, '127.0.0.2')];
  for (const stranger of strangers) {
    stranger.send('\0\x04\0\x01', first.port);
    stranger.send('\0\x05\0\0stop', first.port);
  }
  for (let block = 1; block <= 6; block++) {
    client.send(`\0\x04\0${String.fromCharCode(block)}`, first.port);
    if (block < 6) t.equal((await client.next()).text.slice(0, 4), `\0\x03\0${String.fromCharCode(block + 1)}`);
  }
  t.match(await server.event('done'), { file: '/loader.efi', bytes: 5 * 512 + 10 });
  for (const silent of [client, ...strangers]) t.equal(silent.waiting(), 0, 'every block came once, to its peer');
});

test('a repeated request starts no second transfer, and silence is answered again and again, then given up', async (t) => {
  const clock = new ManualClock();
  const server = startServer(t, FILES, { clock });
  const client = peer(t);
  client.send(read('loader.efi', 'tsize', '0'), server.port);
  const first = await client.next();
  t.equal(first.text, '\0\x06tsize\x002570\0');
  client.send(read('loader.efi', 'tsize', '0'), server.port);
  client.send(read('absent'), server.port);
  t.equal((await client.next()).text, '\0\x05\0\x01no such file\0', 'the repeated request came before this one');
  t.equal(server.events.filter(({ kind }) => kind === 'started').length, 1);

  for (const wait of [1, 2, 4, 8, 16]) {
    await clock.advance(wait * SECOND);
    t.same(await client.next(), first, `the same after ${wait} s`);
  }
  await clock.advance(16 * SECOND);
  t.match(await server.event('lost'), { bytes: 0 });
});

test("a client's error ends its transfer", async (t) => {
  const server = startServer(t, FILES);
  const client = peer(t);
  client.send(read('loader.efi', 'tsize', '0'), server.port);
  client.send('\0\x05\0\x08size\x01 known\0', (await client.next()).port);
  t.match(await server.event('stopped'), { reason: 'size? known' });
});

test('an address with too many transfers is told so, and may ask again when one has ended', async (t) => {
  const server = startServer(t, FILES, { limits: { transfersPerAddress: 2 } });
  const first = peer(t);
  first.send(read('loader.efi'), server.port);
  const { port } = await first.next();
  for (const client of [peer(t), peer(t, '127.0.0.2')]) {
    client.send(read('loader.efi'), server.port);
    t.equal((await client.next()).text.slice(0, 4), '\0\x03\0\x01');
  }
  const late = peer(t);
  late.send(read('loader.efi'), server.port);
  t.equal((await late.next()).text, '\0\x05\0\0too many transfers of this address\0');

  first.send('\0\x05\0\0', port);
  await server.event('stopped');
  late.send(read('loader.efi'), server.port);
  t.equal((await late.next()).text.slice(0, 4), '\0\x03\0\x01');
});

test('when all places are taken, who comes is not answered until one who never spoke again has lost his', async (t) => {
  const clock = new ManualClock();
  const server = startServer(t, FILES, { clock, limits: { transfers: 2 } });
  const [speaking, silent, late] = [peer(t, '127.0.0.1'), peer(t, '127.0.0.2'), peer(t, '127.0.0.3')];
  for (const client of [speaking, silent]) client.send(read('loader.efi'), server.port);
  const { port } = await speaking.next();
  speaking.send('\0\x04\0\x01', port);
  await speaking.next();
  await silent.next();
  late.send(read('loader.efi'), server.port);
  t.match(await server.event('refused'), { address: '127.0.0.3', reason: 'too many transfers' });

  await clock.advance(1 * SECOND);
  late.send(read('loader.efi'), server.port);
  t.match(await server.event('lost'), { address: '127.0.0.2' });
  t.equal((await late.next()).text.slice(0, 4), '\0\x03\0\x01', 'no error came before: firmware would give up');
});

test('a client that has closed its port gives up its place', async (t) => {
  const clock = new ManualClock();
  const server = startServer(t, FILES, { clock });
  const client = peer(t);
  client.send(read('loader.efi'), server.port);
  await client.next();
  client.close();
  await clock.advance(1 * SECOND);
  t.match(await server.event('stopped'), { reason: 'the client has closed its port' });
});

test('one address asks so often a second, and its flood is one line in the log', async (t) => {
  const lines: string[] = [];
  const server = startServer(t, FILES, { clock: new ManualClock(), log: listing(lines) });
  const flood = peer(t, '127.0.0.2');
  for (let request = 0; request < 200; request++) flood.send(read('absent'), server.port);
  const client = peer(t);
  client.send(read('loader.efi'), server.port);
  t.equal((await client.next()).text.slice(0, 4), '\0\x03\0\x01');
  t.equal(flood.waiting(), 50);
  t.same(lines, ['tftp refused', 'tftp started']);
});

test('requests, granted options and errors are told with their bytes and ends, data is not', async (t) => {
  const server = startServer(t, FILES);
  const client = peer(t);
  const asked = read('loader.efi', 'tsize', '0');
  client.send(asked, server.port);
  const { port, text } = await client.next();
  client.send('\0\x05\0\x08no room\0', port);
  await server.event('stopped');
  client.send('\0\x02loader.efi\0octet\0', server.port);
  await client.next();
  const [us, them, transfer] = [server.port, client.port(), port].map((each) => `127.0.0.1:${each}`);
  t.same(
    server.events.map(({ kind, packet }) => [kind, packet && [packet.from, packet.to, Buffer.from(packet.bytes)]]),
    [
      ['request', [them, us, Buffer.from(asked)]],
      ['started', [transfer, them, Buffer.from(text)]],
      ['stopped', [them, transfer, Buffer.from('\0\x05\0\x08no room\0')]],
      ['request', [them, us, Buffer.from('\0\x02loader.efi\0octet\0')]],
      ['refused', [us, them, Buffer.from('\0\x05\0\x02this server is read-only\0')]],
    ],
  );
});

test('a request from port 0 is not answered, and nothing else than a request is', async (t) => {
  const server = startServer(t, FILES);
  const client = peer(t);
  server.forge(read('loader.efi'), '127.0.0.1', 0);
  for (const text of ['\0\x03\0\x01data', '\0\x04\0\x01', '\0\x05\0\0', '\0\x06tsize\x001\0', '\0\x01', '']) {
    client.send(text, server.port);
  }
  client.send(read('loader.efi'), server.port);
  t.equal((await client.next()).text.slice(0, 4), '\0\x03\0\x01', 'the first answer is to the request');
  t.match(server.events, [{ kind: 'request' }, { kind: 'started', port: /[1-9]/ }]);
  t.equal(server.events.length, 2);
});

test('a request from where no way leads back to is let go, and the server serves on', async (t) => {
  const server = startServer(t, FILES);
  // The server's own address is of the loopback, which reaches nobody else.
  server.forge(read('loader.efi'), '198.51.100.7', 1069);
  const client = peer(t);
  client.send(read('loader.efi'), server.port);
  t.equal((await client.next()).text.slice(0, 4), '\0\x03\0\x01');
  t.same(
    server.events.map(({ kind, address }) => `${kind} ${address}`),
    ['request 198.51.100.7', 'request 127.0.0.1', 'started 127.0.0.1'],
  );
});

test('a service that ends takes its transfers with it', async (t) => {
  const server = startServer(t, FILES);
  const client = peer(t);
  client.send(read('loader.efi'), server.port);
  await client.next();
  await server.stop();
  t.match(await server.event('stopped'), { reason: 'the service ends' });
});

test('thousands of mutated packets leave a transfer in flight intact', async (t) => {
  const data = content(200 * 512 + 1);
  const server = startServer(t, new Map([['loader.efi', data]]), { limits: { requestsPerSecond: Infinity } });
  const client = peer(t, '127.0.0.3');
  const strangers = [peer(t, '127.0.0.1'), peer(t, '127.0.0.2')];
  const random = seededRandom(20_261_121);
  const below = (limit: number) => Math.floor(random() * limit);
  const seeds = [read('loader.efi', 'blksize', '1024', 'windowsize', '8'), '\0\x02f\0octet\0', '\0\x03\0\x01data'];
  seeds.push('\0\x04\0\x01', '\0\x05\0\x01no\0', '\0\x06blksize\x00512\0', '');
  const mutated = () => {
    const packet = Buffer.from(seeds[below(seeds.length)]!, 'latin1');
    for (let change = below(4); change > 0 && packet.length > 0; change--) packet[below(packet.length)] = below(256);
    const garbage = Buffer.from(Array.from({ length: below(3) * below(700) }, () => below(256)));
    return Buffer.concat([packet.subarray(0, below(packet.length + 1)), garbage]).toString('latin1');
  };

  client.send(read('loader.efi'), server.port);
  const received: string[] = [];
  for (let block = 1; block <= 201; block++) {
    const { text, port } = await client.next();
    if (text.charCodeAt(3) !== block) throw new Error(`block ${block} expected`);
    received.push(text.slice(4));
    for (const stranger of strangers) {
      for (let packet = 0; packet < 10; packet++) stranger.send(mutated(), below(2) === 0 ? port : server.port);
    }
    // From the peer itself, all but what it has a right to say.
    const own = mutated();
    if (!own.startsWith('\0\x04') && !own.startsWith('\0\x05')) client.send(own, port);
    client.send(`\0\x04\0${String.fromCharCode(block)}`, port);
  }
  await server.event('done');
  t.equal(received.join(''), data.toString('latin1'));

  const next = peer(t, '127.0.0.4');
  next.send(read('loader.efi'), server.port);
  t.equal((await next.next()).text.slice(0, 4), '\0\x03\0\x01', 'and the server serves on');
});

function read(file: string, ...options: string[]): string {
  return `\0\x01${[file, 'octet', ...options].join('\0')}\0`;
}

/** A client made of nothing but a socket: text is what bytes are in Latin-1. */
function peer(t: Test, address = '127.0.0.1') {
  const socket = openDeviceSocket({ address, port: 0 });
  let open = true;
  const close = () => {
    if (open) socket.close();
    open = false;
  };
  t.teardown(close);
  const arrived = new EventEmitter();
  const queue: { text: string; port: number }[] = [];
  socket.on('message', (bytes: Buffer, { port }: RemoteInfo) => {
    queue.push({ text: bytes.toString('latin1'), port });
    arrived.emit('packet');
  });
  return {
    send: (text: string, port: number) => socket.send(Buffer.from(text, 'latin1'), port, '127.0.0.1'),
    port: () => socket.address().port,
    close,
    waiting: () => queue.length,
    async next() {
      for (;;) {
        const packet = queue.shift();
        if (packet !== undefined) return packet;
        await once(arrived, 'packet');
      }
    },
  };
}

/** Keeps what is said, in order. */
function listing(lines: string[]): Log {
  const say = (_facts: object, line: string) => void lines.push(line);
  const log: Log = { debug: say, info: say, warn: say, error: say, child: () => log };
  return log;
}
