import { test } from 'tap';

import { requestBytes } from './golden.fixture.ts';
import { KNOWN, SERVER, start, TOKEN } from './server.fixture.ts';
import { leaseRows } from './subnet.fixture.ts';

const SCRIPT = `http://10.77.0.1:8080/boot/52-54-00-77-00-01?token=${TOKEN}`;
const FOREIGN = { requested: '10.77.0.222', serverId: '10.77.0.9' };

for (const [from, type, file] of [
  ['edk2Pxe', '505845436c69656e74', 'snponly.efi'],
  ['ipxeBios', '505845436c69656e74', SCRIPT],
  ['ipxeEfi', '505845436c69656e74', SCRIPT],
  ['edk2Http', '48545450436c69656e74', 'http://10.77.0.1:8080/loader/snponly.efi'],
] as const) {
  test(`${from} is offered what to boot, by the class it looks for, and no address`, async (t) => {
    const net = await start(t, { proxy: true });
    const [offer] = await net.say('discover', from, { mac: KNOWN });
    t.match(offer, { type: 'offer', yiaddr: '0.0.0.0', file, to: '255.255.255.255:68' });
    t.equal(hex(offer!.options.get(60)), type);
    t.same(
      [1, 51, 58].filter((code) => offer!.options.has(code)),
      [],
      'nothing of a lease',
    );
    t.same(await net.say('request', from, { mac: KNOWN, ...FOREIGN }), [], 'the rest is between it and its server');
    t.same(await leaseRows(net.store), []);
  });
}

test('a ROM that goes by the book asks on port 4011, and is told where it asks from', async (t) => {
  const net = await start(t, { proxy: true });
  for (const type of ['request', 'inform'] as const) {
    net.pxeSocket.emit('message', requestBytes(type, 'edk2Pxe', { mac: KNOWN, ciaddr: '10.77.0.222' }), {
      address: '10.77.0.222',
      port: 4011,
    });
    const [ack] = await net.replies();
    t.match(ack, { type: 'ack', yiaddr: '0.0.0.0', siaddr: SERVER, file: 'snponly.efi', to: '10.77.0.222:4011' });
  }
  t.match(net.timeline.at(-1), { name: 'ack', packet: { from: '10.77.0.1:4011', to: '10.77.0.222:4011' } });
  net.pxeSocket.emit('message', requestBytes('discover', 'edk2Pxe', { mac: KNOWN }), { address: '0.0.0.0', port: 68 });
  t.same(await net.replies(), []);
});

test('strangers and operating systems hear nothing', async (t) => {
  const net = await start(t, { proxy: true });
  t.same(await net.say('discover', 'networkd', { mac: KNOWN }), []);
  t.same(await net.say('inform', 'udhcpc', { mac: KNOWN, ciaddr: '10.77.0.222' }), []);
  t.same(net.asked, []);
  net.decide = () => Promise.resolve({ verb: 'ignore', why: 'unknown MAC' });
  t.same(await net.say('discover', 'edk2Pxe', { mac: '52:54:00:77:00:99' }), []);
  t.equal(net.asked.length, 1);
});

test('a machine without an order is led to its disk by the loader, as where we give the address', async (t) => {
  const net = await start(t, { proxy: true });
  net.decide = () => Promise.resolve({ verb: 'local-disk', why: 'no order' });
  t.match(await net.say('discover', 'edk2Pxe', { mac: KNOWN }), [{ file: 'snponly.efi' }]);
  t.match(await net.say('discover', 'ipxeEfi', { mac: KNOWN }), [{ file: SCRIPT.replace(/\?.*/, '') }]);
});

test('both ports are closed in the end', async (t) => {
  const net = await start(t, { proxy: true });
  await net.stop();
  t.same([net.socket.closed, net.pxeSocket.closed], [true, true]);
});

function hex(bytes: Uint8Array | undefined): string | undefined {
  return bytes && Buffer.from(bytes).toString('hex');
}
