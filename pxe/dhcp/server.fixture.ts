import type { Socket } from 'node:dgram';
import { EventEmitter } from 'node:events';

import type { Test } from 'tap';

import type { Log } from '../../appliance/kernel/log.ts';
import { silentLog } from '../../appliance/kernel/log.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { Secret } from '../../appliance/kernel/secret.ts';
import { openStore } from '../../appliance/store/open.ts';
import { sqliteUrl } from '../../appliance/store/test-stores.ts';
import type { BootClient } from '../boot-client.ts';
import type { BootDecision } from '../boot-plan.ts';
import type { TimelineEntry, TimelineOwner } from '../timeline.ts';
import type { Firmware, RequestFields } from './golden.fixture.ts';
import { requestBytes } from './golden.fixture.ts';
import type { LeaseBook } from './lease-book.ts';
import type { MessageType } from './options.ts';
import { option, readMessageType, readText } from './options.ts';
import { parsePacket } from './packet.ts';
import { ProxyDhcp } from './proxy.ts';
import { StoreLeaseBook } from './records.ts';
import type { TrustedRelay } from './relay.ts';
import { RelayAgents } from './relay.ts';
import { DhcpServer } from './server.ts';
import { StoreNetworks } from './store-networks.ts';
import type { SubnetSeed } from './subnet.fixture.ts';
import { reserve, seedSubnet, SUBNET } from './subnet.fixture.ts';

export const SERVER = '10.77.0.1';
export const KNOWN = '52:54:00:77:00:01';
export const TOKEN = 'very-secret-token';
export const install: BootDecision = { verb: 'install', sessionId: 'bs_1', scriptToken: new Secret(TOKEN) };

export interface SeenReply {
  readonly type: MessageType | undefined;
  readonly mac: string;
  readonly xid: number;
  readonly yiaddr: string;
  readonly siaddr: string;
  readonly file: string | undefined;
  readonly to: string;
  readonly options: ReadonlyMap<number, Uint8Array>;
  readonly bytes: Buffer;
}

class FakeSocket extends EventEmitter {
  sent: SeenReply[] = [];
  closed = false;
  failure: Error | undefined;

  send(bytes: Buffer, port: number, address: string, done: (error: Error | null) => void): void {
    const failure = this.closed ? new Error('not running') : this.failure;
    if (failure !== undefined) {
      done(failure);
      return;
    }
    const packet = parsePacket(bytes);
    if (typeof packet === 'string') throw new Error(packet);
    this.sent.push({
      type: readMessageType(packet.options),
      mac: Buffer.from(packet.chaddr.subarray(0, 6))
        .toString('hex')
        .replace(/(..)(?=.)/g, '$1:'),
      xid: packet.xid,
      yiaddr: packet.yiaddr,
      siaddr: packet.siaddr,
      file: readText(packet.options, option.bootFile),
      to: `${address}:${port}`,
      options: packet.options,
      bytes,
    });
    done(null);
  }

  close(): void {
    this.closed = true;
  }
}

export interface StartOptions extends SubnetSeed {
  readonly relays?: readonly TrustedRelay[];
  /** `ProxyDhcp` instead of `DhcpServer`. */
  readonly proxy?: boolean;
}

/** A server on a network of its own, where KNOWN has 10.77.0.11: `say` sends one message and resolves to the replies when all work is done. */
export async function start(t: Test, { relays = [], proxy = false, ...seed }: StartOptions = {}) {
  const clock = new ManualClock();
  const store = await openStore({ url: sqliteUrl(t), clock, log: silentLog });
  await seedSubnet(store, seed);
  await reserve(store, KNOWN, '10.77.0.11');
  const socket = new FakeSocket();
  const pxeSocket = new FakeSocket();
  const timeline: ({ mac: TimelineOwner } & TimelineEntry)[] = [];
  const log: ({ level: string } & Record<string, unknown>)[] = [];
  const asked: BootClient[] = [];
  const work = { pending: 0 };
  const book = (subnetId: string) => counted(new StoreLeaseBook({ store, subnetId, clock }), work);
  const networks = new StoreNetworks({ read: store.read, open: ({ id }) => book(id), clock });
  const stop = new AbortController();

  const net = {
    clock,
    store,
    socket,
    pxeSocket,
    timeline,
    log,
    asked,
    decide: (): Promise<BootDecision> => Promise.resolve(install),
    datagram: (bytes: Buffer, from = '0.0.0.0', port = 68) =>
      void socket.emit('message', bytes, { address: from, port }),
    /** The replies since last time, once the server has nothing left to do. */
    async replies(): Promise<SeenReply[]> {
      do await new Promise((resolve) => setImmediate(resolve));
      while (work.pending > 0);
      return [...socket.sent.splice(0), ...pxeSocket.sent.splice(0)];
    },
    say(type: MessageType, from: Firmware, fields: RequestFields): Promise<SeenReply[]> {
      net.datagram(requestBytes(type, from, fields), fields.ciaddr);
      return net.replies();
    },
    /** The same as a relay brings it. */
    relayed(type: MessageType, from: Firmware, fields: RequestFields, sender = fields.giaddr): Promise<SeenReply[]> {
      net.datagram(requestBytes(type, from, fields), sender, 67);
      return net.replies();
    },
    async stop(): Promise<void> {
      stop.abort();
      await running;
    },
  };
  const common = {
    openSocket: ({ device, port }: { device: string; port: number }) => {
      t.equal(device, 'rack0');
      t.ok(port === 67 || (proxy && port === 4011), `port ${port}`);
      return (port === 67 ? socket : pxeSocket) as unknown as Socket;
    },
    relays: new RelayAgents({ relays, networkOf: (address) => counting(work, networks.of(address)), clock }),
    director: {
      decide(client: BootClient) {
        asked.push(client);
        return net.decide();
      },
    },
    loaderFor: (architecture: number) => ({ 0: 'undionly.kpxe', 7: 'snponly.efi' })[architecture],
    httpBase: 'http://10.77.0.1:8080',
    timeline: { seen: (mac: TimelineOwner, entry: TimelineEntry) => void timeline.push({ mac, ...entry }) },
    clock,
    log: recording(log),
  };
  const device = 'rack0';
  const leases = book(SUBNET);
  const contains = (address: string) => address.startsWith('10.77.0.');
  const server = proxy
    ? new ProxyDhcp({ ...common, device, serverAddress: SERVER, network: { leases, contains } })
    : new DhcpServer({ ...common, network: { device, serverAddress: SERVER, prefixLength: 24 }, leases });
  const running = server.run(stop.signal);
  log.length = 0;
  t.teardown(async () => {
    await net.stop();
    await store.close();
  });
  return net;
}

// Between two calls of these the server waits for nothing but promises that are already settled.
function counting<T>(work: { pending: number }, promise: Promise<T>): Promise<T> {
  work.pending++;
  return promise.finally(() => work.pending--);
}

function counted(leases: LeaseBook, work: { pending: number }): LeaseBook {
  const count = <T>(promise: Promise<T>): Promise<T> => counting(work, promise);
  return {
    offer: (client) => count(leases.offer(client)),
    bind: (client, address) => count(leases.bind(client, address)),
    withdraw: (client) => count(leases.withdraw(client)),
    release: (client, address) => count(leases.release(client, address)),
    decline: (client, address) => count(leases.decline(client, address)),
    parameters: (client) => count(leases.parameters(client)),
    isStranger: (mac) => leases.isStranger(mac),
  };
}

function recording(into: ({ level: string } & Record<string, unknown>)[]): Log {
  const at = (level: string) => (fields: object, message: string) => void into.push({ level, message, ...fields });
  const log: Log = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error'), child: () => log };
  return log;
}
