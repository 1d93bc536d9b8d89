import { test } from 'tap';

import { SECOND } from '../../appliance/kernel/clock.ts';
import { requestBytes } from './golden.fixture.ts';
import { KNOWN, SERVER, start, TOKEN } from './server.fixture.ts';
import { FAR_SUBNET, leaseRows, reserve, seedFarSubnet } from './subnet.fixture.ts';

const RELAY = '10.78.0.1';
const UPLINK = '10.77.0.254';
const BEHIND = '52:54:00:78:00:01';
// Circuit `eth3`, remote `sw-7`.
const PORT = '0104657468330204' + '73772d37';

test('a listed relay: its network is where its address is, and the answer goes back to it', async (t) => {
  const net = await far(t);
  const asked = { mac: BEHIND, giaddr: RELAY, options: { 82: PORT } };
  const [offer] = await net.relayed('discover', 'edk2Pxe', asked, UPLINK);
  t.match(offer, { type: 'offer', yiaddr: '10.78.0.11', file: 'snponly.efi', to: '10.78.0.1:67' });
  const selecting = { ...asked, requested: '10.78.0.11', serverId: SERVER };
  t.match(await net.relayed('request', 'edk2Pxe', selecting, UPLINK), [{ type: 'ack', yiaddr: '10.78.0.11' }]);
  const stranger = { mac: '52:54:00:78:00:99', giaddr: RELAY };
  t.match(await net.relayed('discover', 'udhcpc', stranger, UPLINK), [{ yiaddr: '10.78.0.100', to: '10.78.0.1:67' }]);
  await net.relayed('request', 'udhcpc', { ...stranger, requested: '10.78.0.100', serverId: SERVER }, UPLINK);
  t.match(await leaseRows(net.store), [{ subnet_id: FAR_SUBNET, address: '10.78.0.100' }]);
});

test('option 82 is echoed as it came, last of all', async (t) => {
  const net = await far(t);
  // A suboption that nobody knows, and one of no length: both are the relay's business.
  const option82 = `${PORT}9703abcdef9800`;
  const asked = { mac: BEHIND, giaddr: RELAY, options: { 82: option82 } };
  const [offer] = await net.relayed('discover', 'edk2Pxe', asked, UPLINK);
  const [code, value] = [...offer!.options].at(-1)!;
  t.same([code, Buffer.from(value).toString('hex')], [82, option82]);
});

test('what a listed relay says of the switch port is believed, and told', async (t) => {
  const net = await far(t);
  const asked = { mac: BEHIND, giaddr: RELAY, options: { 82: PORT } };
  await net.relayed('discover', 'edk2Pxe', asked, UPLINK);
  t.match(net.asked, [{ mac: BEHIND, port: 'sw-7/eth3' }]);
  t.match(net.timeline[0], { name: 'discover', detail: { relay: RELAY, port: 'sw-7/eth3' } });
  await net.relayed('discover', 'edk2Pxe', { ...asked, options: { 82: '010400010107' } }, UPLINK);
  t.equal(net.asked[1]?.port, '10.78.0.1/0x00010107', 'without a remote id the relay is named, and bytes are hex');
  await net.relayed('discover', 'edk2Pxe', { ...asked, options: { 82: '0204' + '73772d37' } }, UPLINK);
  t.equal(net.asked[2]?.port, undefined, 'a relay alone is no port');
  await net.relayed('discover', 'edk2Pxe', { ...asked, options: { 82: '01ff6574' } }, UPLINK);
  t.equal(net.asked[3]?.port, undefined, 'what does not add up is no port');
});

test('option 82 from anybody else is echoed, and not believed', async (t) => {
  const net = await far(t);
  const snooped = { mac: KNOWN, options: { 82: PORT } };
  const [bySwitch] = await net.say('discover', 'edk2Pxe', snooped);
  const [byRelay] = await net.relayed('discover', 'edk2Pxe', { ...snooped, giaddr: '10.77.0.250' });
  t.match([bySwitch, byRelay], [{ yiaddr: '10.77.0.11' }, { yiaddr: '10.77.0.11', to: '10.77.0.250:67' }]);
  for (const reply of [bySwitch, byRelay]) t.equal(Buffer.from(reply!.options.get(82)!).toString('hex'), PORT);
  t.same(
    net.asked.map(({ port }) => port),
    [undefined, undefined],
  );
});

test('a relay of another network that is not listed is refused, with a line a minute', async (t) => {
  const net = await far(t);
  for (let round = 0; round < 3; round++) {
    t.same(await net.relayed('discover', 'edk2Pxe', { mac: BEHIND, giaddr: '10.78.0.2' }), []);
  }
  t.match(net.log, [{ level: 'warn', relay: '10.78.0.2', reason: /not listed/, more: 0 }]);
  t.equal(net.log.length, 1);
  t.same(net.asked, []);
  t.match(net.timeline[0], { mac: BEHIND, source: 'dhcp', name: 'relay-refused', detail: { relay: '10.78.0.2' } });
});

test('whoever claims to be a listed relay, and sends from elsewhere, is refused', async (t) => {
  const net = await far(t);
  const claimed = { mac: BEHIND, giaddr: RELAY, options: { 82: PORT } };
  t.same(await net.relayed('discover', 'edk2Pxe', claimed, '10.78.0.33'), []);
  t.same(await net.relayed('discover', 'edk2Pxe', claimed, RELAY), [], 'the relay sends from its uplink');
  t.match(net.log, [{ level: 'warn', relay: RELAY, from: '10.78.0.33', reason: 'it sends from 10.77.0.254' }]);
});

test('the network that a listed relay selects counts before its own address', async (t) => {
  const net = await start(t, { relays: [{ address: '10.79.0.1' }] });
  await seedFarSubnet(net.store);
  const link = (address: string) => ({ mac: KNOWN, giaddr: '10.79.0.1', options: { 82: `0504${address}` } });
  t.match(await net.relayed('discover', 'udhcpc', link('0a4e0000')), [{ yiaddr: '10.78.0.100', to: '10.79.0.1:67' }]);
  t.match(await net.relayed('discover', 'udhcpc', link('0a4d0000')), [{ yiaddr: '10.77.0.11', to: '10.79.0.1:67' }]);
  t.same(await net.relayed('discover', 'udhcpc', { mac: KNOWN, giaddr: '10.79.0.1' }), []);
  t.match(net.log, [{ level: 'warn', reason: 'no provisioning subnet holds 10.79.0.1' }]);
});

test('a subnet that is added later is served from then on', async (t) => {
  const net = await start(t, { relays: [{ address: RELAY }] });
  const asked = { mac: BEHIND, giaddr: RELAY };
  t.same(await net.relayed('discover', 'udhcpc', asked), []);
  await seedFarSubnet(net.store);
  t.same(await net.relayed('discover', 'udhcpc', asked), [], 'a relay does not make us read for every packet');
  await net.clock.advance(SECOND);
  t.match(await net.relayed('discover', 'udhcpc', asked), [{ yiaddr: '10.78.0.100' }]);
});

test('who renews behind a relay asks us itself, and is answered where it is', async (t) => {
  const net = await far(t);
  const renewing = { mac: BEHIND, ciaddr: '10.78.0.11' };
  t.match(await net.say('request', 'networkd', renewing), [{ type: 'ack', to: '10.78.0.11:68' }]);
  const gone = { mac: BEHIND, ciaddr: '10.78.0.44' };
  t.match(await net.say('request', 'networkd', gone), [{ type: 'nak' }]);
  net.datagram(requestBytes('request', 'networkd', renewing), '0.0.0.0');
  t.match(await net.replies(), [{ type: 'nak', to: '255.255.255.255:68' }], 'on this segment that address is wrong');
});

test('one relay is heard 2,000 times a second, the others go on', async (t) => {
  const net = await far(t);
  const mac = (index: number) => `52:54:00:79:${hexByte(index >> 8)}:${hexByte(index & 255)}`;
  for (let batch = 0; batch < 6; batch++) {
    for (let index = 0; index < 400; index++) {
      const ask = { mac: mac(batch * 400 + index), requested: '192.0.2.1', giaddr: RELAY };
      net.datagram(requestBytes('request', 'udhcpc', ask), UPLINK, 67);
    }
    await net.replies();
  }
  t.equal(net.timeline.filter(({ name }) => name === 'request').length, 2_000);
  t.match(net.log, [{ level: 'warn', relay: RELAY, reason: 'too many requests of one relay' }]);
  t.match(await net.say('discover', 'edk2Pxe', { mac: KNOWN }), [{ yiaddr: '10.77.0.11' }]);
  await net.clock.advance(SECOND);
  t.match(await net.relayed('discover', 'edk2Pxe', { mac: BEHIND, giaddr: RELAY }, UPLINK), [{ type: 'offer' }]);
});

test('nothing that is told of a relayed boot holds the token', async (t) => {
  const net = await far(t);
  await net.relayed('discover', 'ipxeEfi', { mac: BEHIND, giaddr: RELAY, options: { 82: PORT } }, UPLINK);
  const told = net.timeline.map(({ packet }) => Buffer.from(packet!.bytes).toString('latin1'));
  t.match(told[1], '?token=xxxxx');
  t.notMatch([JSON.stringify(net.timeline), ...told].join(), TOKEN);
});

/** A rack whose second network, 10.78.0.0/24, is behind a relay that sends from its uplink; BEHIND has 10.78.0.11 there. */
async function far(t: Parameters<typeof start>[0]) {
  const net = await start(t, { relays: [{ address: RELAY, from: UPLINK }] });
  await seedFarSubnet(net.store);
  await reserve(net.store, BEHIND, '10.78.0.11', FAR_SUBNET);
  return net;
}

function hexByte(value: number): string {
  return value.toString(16).padStart(2, '0');
}
