import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createInterface } from 'node:readline';

import { test, type Test } from 'tap';

import { hasCode, type ErrorCode } from './errors.ts';
import { adoptSocket, openDeviceSocket, openRawIcmp6 } from './native-socket.ts';

const FIXTURE = new URL('./native-socket.fixture.ts', import.meta.url).pathname;
const isRoot = process.getuid?.() === 0;

test('a socket without a device hears what is sent to its address', async (t) => {
  const receiver = openDeviceSocket({ address: '127.0.0.1', port: 0 });
  const sender = openDeviceSocket({ address: '127.0.0.1', port: 0 });
  t.teardown(() => [receiver, sender].forEach((socket) => socket.close()));
  t.not(receiver.address().port, sender.address().port, 'port 0 picks a free port each time');
  const heard = once(receiver, 'message');
  sender.send('hello', receiver.address().port, '127.0.0.1');
  t.equal(String((await heard)[0]), 'hello');
});

test('as much may wait to be read as was asked for, where the process may ask for so much', (t) => {
  const usual = openDeviceSocket({ port: 0 });
  const large = openDeviceSocket({ port: 0, receiveBuffer: 8 * 1024 ** 2 });
  t.teardown(() => [usual, large].forEach((socket) => socket.close()));
  // The kernel doubles it, for its own bookkeeping (socket(7)).
  if (isRoot) t.equal(large.getRecvBufferSize(), 16 * 1024 ** 2);
  else t.ok(large.getRecvBufferSize() >= usual.getRecvBufferSize());
  t.end();
});

test('what cannot be bound is an error that names it, and leaks no descriptor', (t) => {
  throwsCode(t, () => openDeviceSocket({ device: 'no-such-nic', port: 0 }), 'config.invalid', /no-such-nic/);
  throwsCode(t, () => openRawIcmp6('no-such-nic', 133), isRoot ? 'config.invalid' : 'host.missing', /no-such-nic/);
  throwsCode(t, () => openDeviceSocket({ device: '', port: 0 }), 'config.invalid', /""/);
  throwsCode(t, () => openDeviceSocket({ device: 'longer-than-15-characters', port: 0 }), 'config.invalid', /longer/);
  throwsCode(t, () => openDeviceSocket({ port: 65_536 }), 'config.invalid', /65536/);
  throwsCode(t, () => openDeviceSocket({ address: 'localhost', port: 0 }), 'config.invalid', /localhost/);
  throwsCode(t, () => openDeviceSocket({ address: '192.0.2.1', port: 0 }), 'config.invalid', /192\.0\.2\.1/);
  for (const fd of [-1, 0, 1]) throwsCode(t, () => adoptSocket(fd), 'config.invalid', /descriptor/);
  const before = readdirSync('/proc/self/fd').length;
  for (let round = 0; round < 20; round++) t.throws(() => openDeviceSocket({ device: 'no-such-nic', port: 0 }));
  t.equal(readdirSync('/proc/self/fd').length, before);
  t.end();
});

test('a port that another server owns is refused', async (t) => {
  const owner = createSocket('udp4').bind(0, '127.0.0.1');
  t.teardown(() => owner.close());
  await once(owner, 'listening');
  const { port } = owner.address();
  throwsCode(t, () => openDeviceSocket({ address: '127.0.0.1', port }), 'config.invalid', /EADDRINUSE/);
});

test('a descriptor handed over by a service manager is adopted', async (t) => {
  const socket = openDeviceSocket({ address: '127.0.0.1', port: 0 });
  const { port } = socket.address();
  const child = fixture(t, [process.execPath], ['adopt', '3'], descriptorOf(socket));
  await child.heard('ready');
  socket.close();
  const sender = createSocket('udp4');
  t.teardown(() => sender.close());
  sender.send('handed over', port, '127.0.0.1');
  await child.heard('handed over');
  child.end();
  t.same(await child.lines, ['ready', 'handed over']);
});

test('a socket bound to one device does not hear the other', { skip: !isRoot && 'needs root' }, async (t) => {
  const name = `rs-socket-${process.pid}`;
  const [here, there] = [`${name}-a`, `${name}-b`];
  t.teardown(() => [here, there].forEach((namespace) => ip('netns', 'delete', namespace)));
  for (const namespace of [here, there]) ip('netns', 'add', namespace);
  for (const [index, device] of ['one', 'two'].entries()) {
    ip('link', 'add', device, 'netns', here, 'type', 'veth', 'peer', 'name', device, 'netns', there);
    for (const [side, namespace] of [here, there].entries()) {
      ip('-n', namespace, 'address', 'add', `10.9.${index}.${side + 1}/24`, 'dev', device);
      ip('-n', namespace, 'link', 'set', device, 'up');
    }
  }
  const inside = (namespace: string) => ['ip', 'netns', 'exec', namespace, process.execPath];

  const hearing = fixture(t, inside(here), ['hear', '6767', 'one', 'two']);
  await hearing.heard('ready');
  for (const [device, text] of [
    ['one', 'first'],
    ['two', 'second'],
    // What either socket heard wrongly before this came before its own last message.
    ['one', 'last'],
    ['two', 'last'],
  ] as const) {
    await fixture(t, inside(there), ['say', '6767', device, text]).lines;
  }
  await hearing.heard('one last');
  await hearing.heard('two last');
  hearing.end();
  t.same(await hearing.lines, ['ready', 'one first', 'two second', 'one last', 'two last']);

  // The same for what is sent: a broadcast leaves by the sender's device alone, whatever the routing table says.
  const peer = fixture(t, inside(there), ['hear', '6868', 'one', 'two']);
  await peer.heard('ready');
  for (const device of ['two', 'one']) await fixture(t, inside(here), ['say', '6868', device, 'reply']).lines;
  await peer.heard('one reply');
  peer.end();
  t.same(await peer.lines, ['ready', 'two reply', 'one reply']);
});

function throwsCode(t: Test, work: () => unknown, code: ErrorCode, message: RegExp): void {
  try {
    work();
    t.fail(`${code} expected`);
  } catch (error) {
    t.ok(hasCode(error, code), `${code}: ${String(error)}`);
    t.match(String(error), message);
  }
}

// Deprecated and without a successor: only a test needs to play the service manager.
function descriptorOf(socket: Socket): number {
  process.noDeprecation = true;
  return (socket as unknown as { _handle: { fd: number } })._handle.fd;
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

interface Fixture {
  heard(line: string): Promise<void>;
  end(): void;
  readonly lines: Promise<string[]>;
}

function fixture(t: Test, [program = '', ...prefix]: string[], args: string[], handedOver?: number): Fixture {
  const handles = handedOver === undefined ? [] : [handedOver];
  const child: ChildProcess = spawn(program, [...prefix, FIXTURE, ...args], {
    stdio: ['pipe', 'pipe', 'inherit', ...handles],
  });
  t.teardown(() => child.kill());
  const seen: string[] = [];
  const output = createInterface({ input: child.stdout! }).on('line', (line) => seen.push(line));
  return {
    async heard(line) {
      while (!seen.includes(line)) await once(output, 'line');
    },
    end: () => child.stdin?.end(),
    lines: once(output, 'close').then(() => seen),
  };
}
