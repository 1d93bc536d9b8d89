import type { Socket } from 'node:dgram';
import { EventEmitter } from 'node:events';

import type { Log } from '../../appliance/kernel/log.ts';
import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';
import type { BootDirector } from '../../pxe/boot-plan.ts';
import type { LeaseBook } from '../../pxe/dhcp/lease-book.ts';
import { ProxyDhcp } from '../../pxe/dhcp/proxy.ts';
import { StoreLeaseBook } from '../../pxe/dhcp/records.ts';
import { RelayAgents } from '../../pxe/dhcp/relay.ts';
import { DhcpServer } from '../../pxe/dhcp/server.ts';
import { StoreNetworks } from '../../pxe/dhcp/store-networks.ts';
import type { StoreNetwork } from '../../pxe/dhcp/store-networks.ts';
import type { Find, Input, Target } from './campaign.ts';
import { turns, turnsUntil } from './campaign.ts';
import { dhcpInput, goodMessage, RELAY } from './dhcp-inputs.ts';
import { countingLog, LEASES, openSite, SERVER, siteState } from './site.ts';
import type { Site } from './site.ts';

/**
 * Two DHCP servers with a proxy each, on the real store: one pair gets datagrams handed to its sockets' listeners, the other
 * hears ports 67 and 4011 of this network. A sequence comes from a client, from the relay that is listed, or for the
 * proxy. Every reply is held against what a server may say; time passes a second every 1,000 inputs.
 */
export async function openDhcp(find: Find): Promise<Target> {
  const site = await openSite(4);
  const log = countingLog(find);
  const heard = new Map<string, string>();
  const reserved = new Map(site.machines.map(({ mac, address }) => [mac.replaceAll(':', ''), address]));
  const reached = { offers: 0, acknowledgements: 0, refusals: 0, relayed: 0, proxied: 0 };
  const onReply = (bytes: Buffer) => {
    const complaint = wrongReply(bytes, reserved);
    if (complaint !== undefined) find(`${complaint}: ${bytes.toString('hex')}`);
    reached[bytes[242] === 2 ? 'offers' : bytes[242] === 5 ? 'acknowledgements' : 'refusals']++;
    if (addressAt(bytes, 24) === RELAY) reached.relayed++;
    if (bytes[242] !== 6 && addressAt(bytes, 16) === '0.0.0.0' && addressAt(bytes, 20) === SERVER) reached.proxied++;
    heard.set(bytes.toString('hex', 28, 34), addressAt(bytes, 16));
  };
  const plane = openPlane(site);
  const network = await plane.networks.of(SERVER);
  if (network === undefined) throw new Error('the network to serve is not there');
  const served: Served = { ...plane, site, log, network };
  const ways = { direct: directWay(served, onReply), socket: socketWay(served, onReply) };
  let [fed, seconds, first] = [0, 0, ''];

  const aSecond = async () => {
    seconds++;
    await site.clock.advance(1_000);
  };
  const settle = async () => {
    await ways.socket.arrived();
    await turnsUntil('all datagrams are dealt with', () => plane.work.pending === 0);
  };
  const boot = async (way: 'direct' | 'socket', from: string, mac: string): Promise<string> => {
    const replies: Buffer[] = [];
    for (const type of [1, 3] as const) {
      const reply = ways[way].next(mac);
      ways[way].say(goodMessage(from, type, mac, 0x600dcafe, reserved.get(mac)));
      replies.push(await reply);
    }
    return replies.map((bytes) => bytes.toString('hex')).join(' ');
  };

  return {
    reached,
    async feed(input: Input) {
      ways[input.way].say(dhcpInput(input, heard), input.story.pick(PATHS));
      if (++fed % AT_ONCE === 0) await settle();
      if (fed % A_SECOND === 0) await aSecond();
    },
    settle,
    async exchange() {
      await aSecond();
      const answers: string[] = [];
      for (const way of ['direct', 'socket'] as const) {
        for (const from of ['EDK2', 'iPXE 1.0.0']) answers.push(await boot(way, from, '525400770001'));
      }
      await settle();
      if (first === '') first = answers.join('\n');
      if (answers.join('\n') !== first) throw new Error(`other answers:\n${answers.join('\n')}\nat first:\n${first}`);
    },
    async rest() {
      for (const [line, count] of log.lines) {
        if (count > LINES_AT_START + LINES_A_SECOND * seconds)
          find(`"${line}" is logged ${count} times in ${seconds} s`);
      }
      // Longer than any lease, offer or rest of a declined address: the range is free again.
      await site.clock.advance(2 * 3_600_000);
      for (const way of ['direct', 'socket'] as const) await strangersFit(ways[way], way);
      await settle();
      await site.clock.advance(2 * 3_600_000);
    },
    async state() {
      const leases = await site.store.read.selectFrom('leases').selectAll().execute();
      const outside = leases.filter(({ address }) => !inRange(address)).map(({ address }) => address);
      const tooMany = leases.length > LEASES.count;
      const waiting = site.clock.nextWake();
      return { ...((await siteState(site, site.machines)) as object), outside, tooMany, waiting };
    },
    async close() {
      await ways.direct.stop();
      await ways.socket.stop();
      await site.close();
    },
  };

  // As many strangers as there are addresses, one after another: each gets one.
  async function strangersFit(way: ServerWay, name: string): Promise<void> {
    const given = new Set<string>();
    for (let number = 0; number < LEASES.count; number++) {
      const mac = `525400aa${name === 'direct' ? '00' : '01'}${number.toString(16).padStart(2, '0')}`;
      const offer = way.next(mac);
      way.say(goodMessage('udhcpc', 1, mac, number));
      const address = addressAt(await offer, 16);
      const ack = way.next(mac);
      way.say(goodMessage('udhcpc', 3, mac, number, address));
      given.add(addressAt(await ack, 16));
      if (number % 10 === 9) await site.clock.advance(1_000);
    }
    if (given.size !== LEASES.count) find(`of ${LEASES.count} strangers ${given.size} got an address of their own`);
    await site.clock.advance(2 * 3_600_000);
  }
}

// Fewer than the server takes at once, and than a socket's buffer holds.
const AT_ONCE = 50;
const A_SECOND = 1_000;
// One a second of each sort, from each of the two servers.
const LINES_A_SECOND = 2;
const LINES_AT_START = 8;

/** From a client to the server, by the relay that is listed, or to the proxy's port. */
const PATHS = ['client', 'client', 'relay', 'proxy'] as const;
type Path = (typeof PATHS)[number];

interface ServerWay {
  /** By `client` unless told. */
  say(bytes: Buffer, path?: Path): void;
  /** The next reply to this MAC, in hex without colons. */
  next(mac: string): Promise<Buffer>;
  stop(): Promise<void>;
}

interface Served {
  readonly site: Site;
  readonly log: Log;
  readonly network: StoreNetwork;
  readonly relays: RelayAgents;
  readonly director: Pick<BootDirector, 'decide'>;
}

/** What the servers share: one lease book, the relay that is listed, the director; and a count of what is under way. */
function openPlane({ store, clock, director }: Site) {
  const work = { pending: 0 };
  const count = async <T>(promise: Promise<T>): Promise<T> => {
    work.pending++;
    try {
      return await promise;
    } finally {
      work.pending--;
    }
  };
  const open = ({ id }: { id: string }): LeaseBook => {
    const leases = new StoreLeaseBook({ store, subnetId: id, clock });
    return {
      offer: (client) => count(leases.offer(client)),
      bind: (client, address) => count(leases.bind(client, address)),
      withdraw: (client) => count(leases.withdraw(client)),
      release: (client, address) => count(leases.release(client, address)),
      decline: (client, address) => count(leases.decline(client, address)),
      parameters: (client) => count(leases.parameters(client)),
      isStranger: (mac) => leases.isStranger(mac),
    };
  };
  const networks = new StoreNetworks({ read: store.read, open, clock });
  const networkOf = (address: string) => count(networks.of(address));
  const relays = new RelayAgents({ relays: [{ address: RELAY }], networkOf, clock });
  const decide: BootDirector['decide'] = (client) => count(director.decide(client));
  return { work, networks, relays, director: { decide } };
}

/** A DHCP server, and a proxy beside it that has the port 4011 to itself. */
function serve({ site, log, network, relays, director }: Served, openSocket: (port: number) => Socket) {
  const { clock } = site;
  const shared = {
    ...{ relays, director, clock, log, timeline: { seen: () => undefined }, httpBase: `http://${SERVER}:8080` },
    loaderFor: (architecture: number) => ({ 0: 'undionly.kpxe', 7: 'snponly.efi' })[architecture],
  };
  const server = new DhcpServer({
    ...shared,
    network: { device: 'lo', serverAddress: SERVER, prefixLength: 24 },
    openSocket: ({ port }) => openSocket(port),
    leases: network.leases,
  });
  const proxy = new ProxyDhcp({
    ...{ ...shared, device: 'lo', serverAddress: SERVER, network },
    // On port 67 it would answer beside the server.
    openSocket: ({ port }) => (port === 67 ? (new MemorySocket() as unknown as Socket) : openSocket(port)),
  });
  const stop = new AbortController();
  const running = [server.run(stop.signal), proxy.run(stop.signal)];
  return async () => {
    stop.abort();
    await Promise.all(running);
  };
}

class Replies {
  readonly #waiting = new Map<string, (bytes: Buffer) => void>();
  readonly #onReply: (bytes: Buffer) => void;

  constructor(onReply: (bytes: Buffer) => void) {
    this.#onReply = onReply;
  }

  take(bytes: Buffer): void {
    this.#onReply(bytes);
    const mac = bytes.toString('hex', 28, 34);
    this.#waiting.get(mac)?.(bytes);
    this.#waiting.delete(mac);
  }

  async next(mac: string): Promise<Buffer> {
    let reply: Buffer | undefined;
    this.#waiting.set(mac, (bytes) => (reply = bytes));
    await turnsUntil(`a reply to ${mac}`, () => reply !== undefined);
    return reply!;
  }
}

/** As much of a UDP socket as the servers use. */
class MemorySocket extends EventEmitter {
  onSend: (bytes: Buffer) => void = () => undefined;
  close(): void {
    this.removeAllListeners();
  }
  address(): { address: string; port: number } {
    return { address: '0.0.0.0', port: 67 };
  }
  send(bytes: Buffer, _port: number, _address: string, done: (error: Error | null) => void): void {
    this.onSend(bytes);
    done(null);
  }
}

function directWay(served: Served, onReply: (bytes: Buffer) => void): ServerWay {
  const replies = new Replies(onReply);
  const sockets = new Map<number, MemorySocket>();
  const stop = serve(served, (port) => {
    const socket = new MemorySocket();
    socket.onSend = (bytes) => replies.take(bytes);
    sockets.set(port, socket);
    return socket as unknown as Socket;
  });
  return {
    stop,
    next: (mac) => replies.next(mac),
    say(bytes, path = 'client') {
      const from = path === 'relay' ? { address: RELAY, port: 67 } : { address: '10.77.0.33', port: 68 };
      sockets
        .get(path === 'proxy' ? 4011 : 67)
        ?.emit('message', bytes, { ...from, family: 'IPv4', size: bytes.length });
    },
  };
}

function socketWay(served: Served, onReply: (bytes: Buffer) => void): ServerWay & { arrived(): Promise<void> } {
  const replies = new Replies(onReply);
  let [said, arrived, failed] = [0, 0, 0];
  const stop = serve(served, (port) => {
    const socket = openDeviceSocket({ device: 'lo', port });
    // An answer to a relay that claims the server's own address comes back here.
    socket.on('message', (_, { address, port: from }) => (arrived += from === 68 || address === RELAY ? 1 : 0));
    return socket;
  });
  const client = openDeviceSocket({ device: 'lo', port: 68 });
  const relay = openDeviceSocket({ device: 'lo', port: 67, address: RELAY });
  for (const socket of [client, relay]) {
    socket.on('message', (bytes) => replies.take(bytes));
    socket.on('error', () => undefined);
  }
  return {
    next: (mac) => replies.next(mac),
    say(bytes, path = 'client') {
      said++;
      const port = path === 'proxy' ? 4011 : 67;
      (path === 'relay' ? relay : client).send(bytes, port, SERVER, (error) => (failed += error === null ? 0 : 1));
    },
    async arrived() {
      await turnsUntil('datagrams arrive', () => arrived + failed >= said);
      await turns();
    },
    async stop() {
      await stop();
      client.close();
      relay.close();
    },
  };
}

/** What a server may never say. */
function wrongReply(bytes: Buffer, reserved: ReadonlyMap<string, string>): string | undefined {
  if (bytes.length < 300 || bytes.length > 1_472 || bytes[0] !== 2) return 'no reply of a server';
  if (bytes.readUInt32BE(236) !== 0x63825363 || bytes[240] !== 53 || bytes[241] !== 1) return 'no type in front';
  const type = bytes[242]!;
  if (![2, 5, 6].includes(type)) return `a reply of type ${type}`;
  const [mac, address] = [bytes.toString('hex', 28, 34), addressAt(bytes, 16)];
  const own = reserved.get(mac);
  // What a proxy, an INFORM's answer and a refusal say holds no address; a proxy knows no strangers.
  if (address === '0.0.0.0') return type === 2 && own === undefined ? 'an offer of nothing' : undefined;
  if (type === 6) return 'a refusal with an address';
  if (own !== undefined) return address === own ? undefined : `a known machine is offered ${address}`;
  return inRange(address) ? undefined : `a stranger is offered ${address}`;
}

function inRange(address: string): boolean {
  const [last, ...network] = address.split('.').reverse().map(Number);
  const [from, to] = [LEASES.first, LEASES.last].map((text) => Number(text.split('.')[3]));
  return network.join('.') === '0.77.10' && last! >= from! && last! <= to!;
}

function addressAt(bytes: Buffer, at: number): string {
  return [...bytes.subarray(at, at + 4)].join('.');
}
