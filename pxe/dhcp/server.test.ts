import { test } from 'tap';

import { HOUR, MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { BootDecision } from '../boot-plan.ts';
import { requestBytes } from './golden.fixture.ts';
import { seededRandom } from '../../lab/loss/seeded-random.ts';
import { mutated } from './mutate.fixture.ts';
import { readRequest } from './request.ts';
import { install, KNOWN, SERVER, start, TOKEN } from './server.fixture.ts';
import { leaseRows, reserve } from './subnet.fixture.ts';

const OTHER_SERVER = '10.77.0.9';
const STRANGER = '52:54:00:77:00:99';

test('a known machine boots: loader for the ROM, script for iPXE', async (t) => {
  const net = await start(t);
  for (const [from, file] of [
    ['edk2Pxe', 'snponly.efi'],
    ['ipxeEfi', `http://10.77.0.1:8080/boot/52-54-00-77-00-01?token=${TOKEN}`],
  ] as const) {
    const [offer] = await net.say('discover', from, { mac: KNOWN });
    t.match(offer, { type: 'offer', yiaddr: '10.77.0.11', file, to: '255.255.255.255:68' });
    const [ack] = await net.say('request', from, { mac: KNOWN, requested: '10.77.0.11', serverId: SERVER });
    t.match(ack, { type: 'ack', yiaddr: '10.77.0.11', file });
  }
  t.same(
    net.asked.map(({ kind, architecture }) => [kind, architecture]),
    [
      ['pxe-rom', 7],
      ['pxe-rom', 7],
      ['ipxe', 7],
      ['ipxe', 7],
    ],
  );
});

test("UEFI's HTTP boot is asked about too, and led to the loader", async (t) => {
  const net = await start(t);
  const file = 'http://10.77.0.1:8080/loader/snponly.efi';
  t.match(await net.say('discover', 'edk2Http', { mac: KNOWN }), [{ yiaddr: '10.77.0.11', file }]);
  t.match(net.timeline[1], { name: 'offer', detail: { decision: 'install', boot: file } });
  net.decide = () => Promise.resolve({ verb: 'local-disk', why: 'no order' });
  t.match(await net.say('discover', 'edk2Http', { mac: KNOWN }), [{ yiaddr: '10.77.0.11', file: undefined }]);
});

test('the timeline tells each packet in and out, and never the token', async (t) => {
  const net = await start(t);
  await net.say('discover', 'ipxeEfi', { mac: KNOWN });
  await net.say('request', 'ipxeEfi', { mac: KNOWN, requested: '10.77.0.50', serverId: SERVER });
  const uuid = '12345678-9abc-def0-1122-334455667788';
  const machine = { xid: '5eedf00d', kind: 'ipxe', architecture: 7, uuid };
  t.match(net.timeline, [
    { mac: KNOWN, source: 'dhcp', name: 'discover', detail: machine },
    { name: 'offer', detail: { address: '10.77.0.11', decision: 'install', boot: 'script', to: '255.255.255.255' } },
    { name: 'request', detail: { ...machine, requested: '10.77.0.50', server: SERVER } },
    { name: 'nak', detail: { address: '10.77.0.50', why: 'that address is not yours' } },
  ]);
  t.equal(net.timeline.length, 4);
  t.notMatch(JSON.stringify([net.timeline, net.log]), TOKEN);
});

test('the timeline holds each packet as it went over the wire, but for the token', async (t) => {
  const net = await start(t);
  const discover = requestBytes('discover', 'ipxeEfi', { mac: KNOWN });
  net.datagram(discover);
  const [offer] = await net.replies();
  const [seen, told] = net.timeline.map(({ packet }) => packet);
  t.match(seen, { from: '0.0.0.0:68', to: '255.255.255.255:67' });
  t.ok(discover.equals(seen!.bytes));
  t.match(told, { from: '10.77.0.1:67', to: '255.255.255.255:68' });
  const sent = offer!.bytes.toString('latin1');
  t.match(sent, TOKEN);
  t.equal(Buffer.from(told!.bytes).toString('latin1'), sent.replace(TOKEN, 'x'.repeat(TOKEN.length)));
});

test('strangers are not told to the timeline, whatever they send', async (t) => {
  const net = await start(t, { leaseLast: '10.77.0.100' });
  const lease = { mac: STRANGER, requested: '10.77.0.100', serverId: SERVER };
  await net.say('discover', 'udhcpc', lease);
  await net.say('request', 'udhcpc', lease);
  await net.say('discover', 'udhcpc', { mac: '52:54:00:77:00:98' });
  await net.say('request', 'udhcpc', { mac: '52:54:00:77:00:98', requested: '10.77.0.100', serverId: OTHER_SERVER });
  await net.say('inform', 'udhcpc', { mac: STRANGER, ciaddr: '10.77.0.100' });
  await net.say('decline', 'udhcpc', lease);
  t.same(net.timeline, []);
  await reserve(net.store, STRANGER, '10.77.0.12');
  await net.say('discover', 'udhcpc', { mac: STRANGER });
  t.match(net.timeline, [{ name: 'discover' }, { name: 'offer', detail: { address: '10.77.0.12' } }]);
});

test('why a machine is not told what to boot stands on its timeline', async (t) => {
  const net = await start(t);
  net.decide = () => Promise.resolve({ verb: 'ignore', why: 'another switch port', code: 'boot.mismatch' });
  const [offer] = await net.say('discover', 'edk2Pxe', { mac: KNOWN });
  t.match(offer, { yiaddr: '10.77.0.11', file: undefined });
  t.match(net.timeline[1], { name: 'offer', detail: { decision: 'ignore', why: 'another switch port' } });
});

test('whatever client identifier firmware, iPXE and system send, the address is the same', async (t) => {
  const net = await start(t);
  for (const [mac, yiaddr] of [
    [KNOWN, '10.77.0.11'],
    [STRANGER, '10.77.0.100'],
  ] as const) {
    // Absent; the MAC, and another's; a DUID (RFC 4361).
    for (const from of ['edk2Pxe', 'ipxeBios', 'ipxeEfi', 'networkd'] as const) {
      t.match(await net.say('discover', from, { mac }), [{ type: 'offer', yiaddr }], `${mac} as ${from}`);
      const selecting = { mac, requested: yiaddr, serverId: SERVER };
      t.match(await net.say('request', from, selecting), [{ type: 'ack', yiaddr }], `${mac} as ${from}`);
    }
  }
});

test('an operating system gets a plain lease, and nobody is asked what it shall boot', async (t) => {
  const net = await start(t);
  const [offer] = await net.say('discover', 'networkd', { mac: KNOWN });
  t.match(offer, { type: 'offer', yiaddr: '10.77.0.11', file: undefined });
  t.same(net.asked, []);
});

test('a stranger is leased an address from the range, and renews it', async (t) => {
  const net = await start(t);
  const stranger = { mac: STRANGER };
  t.match(await net.say('discover', 'udhcpc', stranger), [{ type: 'offer', yiaddr: '10.77.0.100' }]);
  const selecting = { ...stranger, requested: '10.77.0.100', serverId: SERVER };
  t.match(await net.say('request', 'udhcpc', selecting), [{ type: 'ack', to: '255.255.255.255:68' }]);
  await net.clock.advance(HOUR / 2);
  const renewing = { ...stranger, ciaddr: '10.77.0.100' };
  t.match(await net.say('request', 'udhcpc', renewing), [{ type: 'ack', to: '10.77.0.100:68' }]);
  t.match(await leaseRows(net.store), [{ mac: STRANGER, state: 'bound', expires_at: net.clock.now() + HOUR }]);
});

test('a client that comes back with an address is told whether it is right', async (t) => {
  const net = await start(t);
  const rebooting = (mac: string, requested: string) => net.say('request', 'udhcpc', { mac, requested });
  t.match(await rebooting(KNOWN, '10.77.0.11'), [{ type: 'ack', yiaddr: '10.77.0.11' }]);
  t.match(await rebooting(KNOWN, '10.77.0.100'), [{ type: 'nak', to: '255.255.255.255:68' }]);
  t.match(await rebooting(STRANGER, '192.168.1.7'), [{ type: 'nak' }], 'of another network');
  t.same(await rebooting(STRANGER, '10.77.0.101'), [], 'perhaps another server knows it');
});

test('a client that renews the wrong address is sent back to the start', async (t) => {
  const net = await start(t);
  t.match(await net.say('request', 'udhcpc', { mac: KNOWN, ciaddr: '10.77.0.100' }), [
    { type: 'nak', to: '255.255.255.255:68' },
  ]);
});

test('who selected an offer that has gone is told so', async (t) => {
  const net = await start(t);
  const gone = { mac: STRANGER, requested: '10.77.0.101', serverId: SERVER };
  t.match(await net.say('request', 'udhcpc', gone), [{ type: 'nak' }]);
});

test('a client that chose another server is not answered, and its offer is free', async (t) => {
  const net = await start(t, { leaseLast: '10.77.0.100' });
  await net.say('discover', 'udhcpc', { mac: STRANGER });
  const elsewhere = { mac: STRANGER, requested: '10.77.0.200', serverId: OTHER_SERVER };
  t.same(await net.say('request', 'udhcpc', elsewhere), []);
  t.match(await net.say('discover', 'udhcpc', { mac: '52:54:00:77:00:98' }), [{ type: 'offer' }]);
});

test('a REQUEST that names no address is not answered', async (t) => {
  const net = await start(t);
  t.same(await net.say('request', 'udhcpc', { mac: KNOWN }), []);
  t.same(await net.say('request', 'udhcpc', { mac: KNOWN, serverId: SERVER }), []);
});

test('a declined address is not offered again for a while, and people are told', async (t) => {
  const net = await start(t);
  const lease = { mac: STRANGER, requested: '10.77.0.100', serverId: SERVER };
  await net.say('discover', 'udhcpc', lease);
  await net.say('request', 'udhcpc', lease);
  t.same(await net.say('decline', 'udhcpc', { ...lease, serverId: OTHER_SERVER }), []);
  t.same(net.log, []);
  t.same(await net.say('decline', 'udhcpc', lease), []);
  t.match(net.log, [{ level: 'warn', mac: STRANGER, address: '10.77.0.100' }]);
  t.match(await net.say('discover', 'udhcpc', { mac: STRANGER }), [{ yiaddr: '10.77.0.101' }]);
});

test('a flood of clients that decline is a line a second', async (t) => {
  const net = await start(t);
  const decline = { requested: '10.77.0.100', serverId: SERVER };
  for (let last = 10; last < 60; last++)
    await net.say('decline', 'udhcpc', { ...decline, mac: `52:54:00:77:00:${last}` });
  t.match(net.log, [{ level: 'warn', mac: '52:54:00:77:00:10', more: 0 }]);
  t.equal(net.log.length, 1);
  await net.clock.advance(SECOND);
  await net.say('decline', 'udhcpc', { ...decline, mac: STRANGER });
  t.match(net.log[1], { mac: STRANGER, more: 49 });
});

test('a released address is the next one’s', async (t) => {
  const net = await start(t, { leaseLast: '10.77.0.100' });
  const lease = { mac: STRANGER, requested: '10.77.0.100', serverId: SERVER };
  await net.say('discover', 'udhcpc', lease);
  await net.say('request', 'udhcpc', lease);
  const release = { mac: STRANGER, ciaddr: '10.77.0.100' };
  t.same(await net.say('release', 'udhcpc', { ...release, serverId: OTHER_SERVER }), []);
  t.same(await net.say('discover', 'udhcpc', { mac: '52:54:00:77:00:98' }), []);
  t.same(await net.say('release', 'udhcpc', { ...release, serverId: SERVER }), []);
  t.match(await net.say('discover', 'udhcpc', { mac: '52:54:00:77:00:98' }), [{ yiaddr: '10.77.0.100' }]);
});

test('an INFORM from this network gets parameters, and no lease', async (t) => {
  const net = await start(t);
  const [ack] = await net.say('inform', 'networkd', { mac: STRANGER, ciaddr: '10.77.0.60' });
  t.match(ack, { type: 'ack', yiaddr: '0.0.0.0', to: '10.77.0.60:68' });
  t.same(await net.say('inform', 'networkd', { mac: STRANGER, ciaddr: '192.0.2.1' }), []);
  t.same(await leaseRows(net.store), []);
});

test('a full range is one line a minute and no answer; known machines are served on', async (t) => {
  const net = await start(t, { leaseLast: '10.77.0.100' });
  await net.say('discover', 'udhcpc', { mac: STRANGER });
  await net.clock.advance(1);
  for (let last = 10; last < 30; last++) {
    t.same(await net.say('discover', 'udhcpc', { mac: `52:54:00:77:00:${last}` }), []);
  }
  t.match(net.log, [{ level: 'error', code: 'address.pool-empty', details: { subnet: '10.77.0.0/24' }, more: 0 }]);
  t.equal(net.log.length, 1);
  t.match(await net.say('discover', 'udhcpc', { mac: KNOWN }), [{ yiaddr: '10.77.0.11' }]);
  await net.clock.advance(MINUTE / 2);
  await net.say('discover', 'udhcpc', { mac: STRANGER });
  await net.clock.advance(MINUTE / 2);
  await net.say('discover', 'udhcpc', { mac: '52:54:00:77:00:10' });
  t.match(net.log[1], { level: 'error', more: 19 });
});

test('a network without a range for strangers does not answer them', async (t) => {
  const net = await start(t, { leaseFirst: null, leaseLast: null });
  t.same(await net.say('discover', 'udhcpc', { mac: STRANGER }), []);
  t.same(net.log, []);
});

test('a boot whose order can’t be read is not answered wrongly: it asks again', async (t) => {
  const net = await start(t);
  net.decide = () => Promise.reject(new RackstartError('store.unavailable', 'no database'));
  t.same(await net.say('discover', 'edk2Pxe', { mac: KNOWN }), []);
  t.match(net.log, [{ level: 'warn', code: 'store.unavailable' }]);
  net.decide = () => Promise.resolve(install);
  t.match(await net.say('discover', 'edk2Pxe', { mac: KNOWN }), [{ type: 'offer' }]);
});

test('garbage is dropped with a line a second at most, and stops nothing', async (t) => {
  const net = await start(t);
  for (let round = 0; round < 100; round++) net.datagram(Buffer.alloc(round, 0xff));
  t.match(net.log, [{ level: 'debug', reason: 'truncated', more: 0 }]);
  await net.clock.advance(SECOND);
  net.datagram(requestBytes('offer', 'udhcpc'));
  t.match(net.log[1], { level: 'debug', reason: "a server's message", more: 99 });
  t.equal(net.log.length, 2);
  t.match(await net.say('discover', 'udhcpc', { mac: KNOWN }), [{ type: 'offer' }]);
});

test('what goes wrong in the timeline or the socket ends one packet and nothing else', async (t) => {
  const net = await start(t);
  net.socket.failure = new Error('ENETDOWN');
  t.same(await net.say('discover', 'udhcpc', { mac: KNOWN }), []);
  net.socket.failure = undefined;
  net.socket.emit('error', new Error('ENETDOWN'));
  t.match(net.log, [{ level: 'warn' }, { level: 'warn' }]);
  t.match(await net.say('discover', 'udhcpc', { mac: KNOWN }), [{ type: 'offer' }]);
});

test('of a flood, what is beyond the bound is dropped', async (t) => {
  const net = await start(t);
  const gate = Promise.withResolvers<BootDecision>();
  net.decide = () => gate.promise;
  const macs = Array.from({ length: 30 }, (_, index) => `52:54:00:78:00:${index + 10}`);
  for (const [index, mac] of macs.entries()) await reserve(net.store, mac, `10.77.0.${index + 12}`);
  for (let round = 0; round < 600; round++) {
    net.datagram(requestBytes('discover', 'edk2Pxe', { mac: macs[round % 30]! }));
  }
  t.match(net.log, [{ level: 'debug', reason: 'too many requests at once' }]);
  gate.resolve(install);
  t.equal((await net.replies()).length, 512);
  t.match(await net.say('discover', 'udhcpc', { mac: KNOWN }), [{ type: 'offer' }]);
});

test('one client is heard twenty times a second, the others go on', async (t) => {
  const net = await start(t);
  for (let round = 0; round < 30; round++) net.datagram(requestBytes('discover', 'udhcpc', { mac: KNOWN }));
  t.equal((await net.replies()).length, 20);
  t.equal(net.timeline.length, 40);
  t.match(net.log, [{ level: 'debug', reason: 'too many requests of one client' }]);
  t.match(await net.say('discover', 'udhcpc', { mac: STRANGER }), [{ type: 'offer' }]);
  await net.clock.advance(SECOND);
  t.match(await net.say('discover', 'udhcpc', { mac: KNOWN }), [{ type: 'offer' }]);
});

test('20,000 mutated packets: no reply without a valid request, and the server serves on', async (t) => {
  const net = await start(t);
  const random = seededRandom(77);
  const seeds = [
    requestBytes('discover', 'ipxeBios', { mac: KNOWN }),
    requestBytes('discover', 'edk2Pxe', { mac: STRANGER }),
    requestBytes('request', 'ipxeEfi', { mac: KNOWN, requested: '10.77.0.11', serverId: SERVER }),
    requestBytes('request', 'networkd', { mac: STRANGER, ciaddr: '10.77.0.100' }),
    requestBytes('decline', 'udhcpc', { mac: STRANGER, requested: '10.77.0.100', serverId: SERVER }),
    requestBytes('release', 'udhcpc', { mac: STRANGER, ciaddr: '10.77.0.100', serverId: SERVER }),
    requestBytes('inform', 'dhclient', { mac: STRANGER, ciaddr: '10.77.0.60' }),
  ];
  const unanswered = new Map<string, number>();
  let valid = 0;
  let answered = 0;
  for (let round = 0; round < 20_000; round++) {
    const seed = Buffer.from(seeds[round % seeds.length]!);
    seed.writeUInt32BE(round, 4);
    const bytes = mutated(seed, random);
    const request = readRequest(bytes);
    if (typeof request !== 'string') {
      const key = `${request.client.mac} ${request.packet.xid}`;
      unanswered.set(key, (unanswered.get(key) ?? 0) + 1);
      valid++;
    }
    net.datagram(bytes);
    if (round % 25 === 24) await net.clock.advance(SECOND);
    if (round % 250 !== 249) continue;
    for (const { mac, xid } of await net.replies()) {
      const left = unanswered.get(`${mac} ${xid}`) ?? 0;
      if (left === 0) t.fail(`a reply that nobody asked for: ${mac} ${xid}`);
      unanswered.set(`${mac} ${xid}`, left - 1);
      answered++;
    }
  }
  t.ok(valid > 1_000 && valid < 19_000 && answered > 1_000, `${valid} were requests, ${answered} were answered`);
  t.same(
    net.log.filter(({ level, code }) => level !== 'debug' && code !== 'address.pool-empty' && code !== undefined),
    [],
    'nothing failed inside',
  );
  t.match(await net.say('discover', 'edk2Pxe', { mac: KNOWN }), [{ yiaddr: '10.77.0.11', file: 'snponly.efi' }]);
});

test('the server ends when told, after what it was doing, and closes its socket', async (t) => {
  const net = await start(t);
  const gate = Promise.withResolvers<BootDecision>();
  net.decide = () => gate.promise;
  net.datagram(requestBytes('discover', 'edk2Pxe', { mac: KNOWN }));
  const stopped = net.stop();
  t.notOk(net.socket.closed);
  gate.resolve(install);
  await stopped;
  t.match(await net.replies(), [{ type: 'offer' }]);
  t.ok(net.socket.closed);
});
