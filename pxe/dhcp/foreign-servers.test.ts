import { test } from 'tap';
import type { Test } from 'tap';

import { HOUR, MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';
import { silentLog } from '../../appliance/kernel/log.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import type { PacketSocket } from '../../appliance/kernel/packet-socket.ts';
import { openStore } from '../../appliance/store/open.ts';
import { sqliteUrl } from '../../appliance/store/test-stores.ts';
import { parseMac } from '../boot-client.ts';
import type { TimelineEntry, TimelineOwner } from '../timeline.ts';
import { ForeignServers } from './foreign-servers.ts';
import { clientFrame, readDhcpFrame } from './frame.ts';
import { requestPacket } from './golden.fixture.ts';
import type { MessageType } from './options.ts';
import { addresses, messageType, option, readMessageType } from './options.ts';
import { encodePacket, parsePacket } from './packet.ts';
import { seedSubnet, SUBNET } from './subnet.fixture.ts';

const OURS = '10.77.0.1';
const OTHER = '10.77.0.9';
const OTHER_MAC = parseMac('52:54:00:77:09:09')!;
const CLIENT = parseMac('52:54:00:77:00:01')!;

test('another server is written down with the MAC of its frame, and told to an engineer and to the boot', async (t) => {
  const net = await watch(t);
  await net.hear('offer', OTHER);
  t.match(await net.servers(), [{ subnet_id: SUBNET, mac: OTHER_MAC, address: OTHER, last_client: CLIENT }]);
  t.match(net.alerts, [
    { key: SUBNET, data: { code: 'dhcp.foreign-server', message: /^10\.77\.0\.9 offered too.*09:09/ } },
  ]);
  t.match(net.timeline, [
    {
      owner: CLIENT,
      name: 'foreign-offer',
      detail: { server: OTHER, serverMac: OTHER_MAC, address: '10.77.0.222' },
      packet: { from: '0.0.0.0:67', to: '255.255.255.255:68' },
    },
  ]);
});

test('it is told once, until it has been gone for an hour', async (t) => {
  const net = await watch(t);
  for (let minute = 0; minute < 90; minute++) {
    await net.hear('ack', OTHER);
    await net.clock.advance(MINUTE);
  }
  t.equal(net.alerts.length, 1);
  const again = await watch(t, { store: net.store, clock: net.clock });
  await again.hear('offer', OTHER);
  t.equal(again.alerts.length, 0, 'nor by the next daemon');
  await net.clock.advance(HOUR);
  await again.hear('offer', OTHER);
  t.equal(again.alerts.length, 1);
});

test('each server has an alert of its own', async (t) => {
  const net = await watch(t);
  await net.hear('offer', OTHER);
  await net.hear('offer', '10.77.0.10');
  t.equal(net.alerts.length, 2);
  t.equal((await net.servers()).length, 2);
});

test('our own answers, and what is no offer, are nobody else', async (t) => {
  const net = await watch(t);
  await net.hear('offer', OURS);
  await net.hear('nak', OTHER);
  await net.hear('discover', OTHER);
  net.frames.push(Buffer.alloc(60, 0x45), Buffer.alloc(0));
  await net.turn();
  t.same([await net.servers(), net.alerts, net.timeline], [[], [], []]);
});

test('a server that is meant to be there is written down, and alarms nobody', async (t) => {
  const net = await watch(t, { expected: true });
  await net.hear('offer', OTHER);
  t.equal((await net.servers()).length, 1);
  t.same([net.alerts, net.timeline], [[], []]);
});

test('it asks for an address itself: at the start, every five minutes, and soon when a client chose another', async (t) => {
  const net = await watch(t);
  await net.turn();
  t.equal(net.sent.length, 1);
  const { sourceMac, destination, bytes } = readDhcpFrame(net.sent[0]!)!;
  const packet = parsePacket(bytes);
  if (typeof packet === 'string') throw new Error(packet);
  t.match({ sourceMac, destination }, { sourceMac: '52:54:00:77:ff:fe', destination: '255.255.255.255' });
  t.equal(readMessageType(packet.options), 'discover');
  t.equal(packet.flags, 0x8000, 'the answer comes by broadcast');
  await net.clock.advance(4 * MINUTE);
  t.equal(net.sent.length, 1);
  net.server.chosen(CLIENT, OTHER);
  await net.turn();
  t.equal(net.sent.length, 2);
  t.match(net.timeline, [{ owner: CLIENT, name: 'foreign-chosen', detail: { server: OTHER } }]);
  net.server.chosen(CLIENT, OTHER);
  await net.turn();
  t.equal(net.sent.length, 2, 'a minute apart at least');
  await net.clock.advance(MINUTE);
  t.equal(net.sent.length, 3);
  await net.clock.advance(5 * MINUTE);
  t.equal(net.sent.length, 4);
});

test('where frames can not be heard, the daemon serves on', async (t) => {
  const clock = new ManualClock();
  const store = await openStore({ url: sqliteUrl(t), clock, log: silentLog });
  t.teardown(() => store.close());
  const service = new ForeignServers({
    device: 'rack0',
    subnetId: SUBNET,
    serverAddress: OURS,
    expected: false,
    store,
    events: { append: () => Promise.resolve() },
    timeline: { seen: () => undefined },
    clock,
    log: silentLog,
    open: () => {
      throw new RackstartError('host.missing', 'EAFNOSUPPORT');
    },
  });
  await t.resolves(service.run(new AbortController().signal));
});

interface Watched {
  readonly expected?: boolean;
  readonly store?: Awaited<ReturnType<typeof openStore>>;
  readonly clock?: ManualClock;
}

async function watch(t: Test, { expected = false, clock = new ManualClock(), ...given }: Watched = {}) {
  const store = given.store ?? (await openStore({ url: sqliteUrl(t), clock, log: silentLog }));
  if (given.store === undefined) await seedSubnet(store);
  const alerts: { key: string; data: object }[] = [];
  const timeline: ({ owner: TimelineOwner } & TimelineEntry)[] = [];
  const frames: Buffer[] = [];
  const sent: Buffer[] = [];
  const socket: PacketSocket = {
    send: (frame) => void sent.push(Buffer.from(frame)),
    receive: () => frames.shift(),
    close: () => undefined,
  };
  const server = new ForeignServers({
    device: 'rack0',
    subnetId: SUBNET,
    serverAddress: OURS,
    expected,
    store,
    events: {
      async append(_tx, type, { key, data }) {
        t.equal(type, 'alert.raised');
        alerts.push({ key, data });
      },
    },
    timeline: { seen: (owner, entry) => void timeline.push({ owner, ...entry }) },
    clock,
    log: silentLog,
    open: () => socket,
    mac: parseMac('52:54:00:77:ff:fe')!,
  });
  const stop = new AbortController();
  const running = server.run(stop.signal);
  t.teardown(async () => {
    stop.abort();
    await running;
    if (given.store === undefined) await store.close();
  });
  const turn = async () => {
    await clock.advance(SECOND);
    while (frames.length > 0) await new Promise((resolve) => setImmediate(resolve));
    await store.transaction(() => Promise.resolve());
    await new Promise((resolve) => setImmediate(resolve));
  };
  return {
    server,
    store,
    clock,
    alerts,
    timeline,
    frames,
    sent,
    turn,
    servers: () => store.read.selectFrom('foreign_dhcp_servers').selectAll().execute(),
    /** A frame that a server with OTHER_MAC sends to CLIENT. */
    async hear(type: MessageType, from: string) {
      frames.push(clientFrame(OTHER_MAC, reply(type, from)));
      await turn();
    },
  };
}

function reply(type: MessageType, server: string): Buffer {
  const packet = requestPacket(type, 'udhcpc', { mac: CLIENT });
  const options = new Map([
    [option.messageType, messageType(type)],
    [option.serverId, addresses(server)],
  ]);
  return encodePacket({ ...packet, op: type === 'discover' ? 1 : 2, yiaddr: '10.77.0.222', options });
}
