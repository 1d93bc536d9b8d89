import type { Socket } from 'node:dgram';
import { EventEmitter } from 'node:events';

import type { Log } from '../../appliance/kernel/log.ts';
import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';
import { StoreLeaseBook } from '../../pxe/dhcp/records.ts';
import { DhcpServer } from '../../pxe/dhcp/server.ts';
import type { Find, Input, Target } from './campaign.ts';
import { turns, turnsUntil } from './campaign.ts';
import { dhcpInput, goodMessage, RELAY } from './dhcp-inputs.ts';
import { countingLog, LEASES, openSite, SERVER, siteState, SUBNET } from './site.ts';
import type { Site } from './site.ts';

/**
 * Two DHCP servers on the real store: one gets datagrams handed to its socket's listener, the other hears port 67 of this
 * network. Every reply is held against what a server may say; time passes a second every 1,000 inputs.
 */
export async function openDhcp(find: Find): Promise<Target> {
  const site = await openSite(4);
  const log = countingLog(find);
  const heard = new Map<string, string>();
  const reserved = new Map(site.machines.map(({ mac, address }) => [mac.replaceAll(':', ''), address]));
  const reached = { offers: 0, acknowledgements: 0, refusals: 0 };
  const onReply = (bytes: Buffer) => {
    const complaint = wrongReply(bytes, reserved);
    if (complaint !== undefined) find(`${complaint}: ${bytes.toString('hex')}`);
    reached[bytes[242] === 2 ? 'offers' : bytes[242] === 5 ? 'acknowledgements' : 'refusals']++;
    heard.set(bytes.toString('hex', 28, 34), addressAt(bytes, 16));
  };
  const ways = { direct: directWay(site, log, onReply), socket: socketWay(site, log, onReply) };
  let [fed, seconds, first] = [0, 0, ''];

  const aSecond = async () => {
    seconds++;
    await site.clock.advance(1_000);
  };
  const settle = async () => {
    await ways.socket.arrived();
    await turnsUntil('all datagrams are dealt with', () => ways.direct.idle() && ways.socket.idle());
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
      ways[input.way].say(dhcpInput(input, heard));
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
        if (count > LINES_A_SECOND * (seconds + 1)) find(`"${line}" is logged ${count} times in ${seconds} s`);
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

interface ServerWay {
  say(bytes: Buffer): void;
  /** The next reply to this MAC, in hex without colons. */
  next(mac: string): Promise<Buffer>;
  /** Whether nothing is being dealt with. */
  idle(): boolean;
  stop(): Promise<void>;
}

/** One server; `deliver` tells it of a socket, `work` counts what it does. */
function serve(site: Site, log: Log, openSocket: () => Socket) {
  let busy = 0;
  const count = async <T>(promise: Promise<T>): Promise<T> => {
    busy++;
    try {
      return await promise;
    } finally {
      busy--;
    }
  };
  const leases = new StoreLeaseBook({ store: site.store, subnetId: SUBNET, clock: site.clock });
  const server = new DhcpServer({
    network: { device: 'lo', serverAddress: SERVER, prefixLength: 24 },
    openSocket,
    // Between two calls of the lease book or the director the server waits for nothing but settled promises.
    leases: {
      offer: (client) => count(leases.offer(client)),
      bind: (client, address) => count(leases.bind(client, address)),
      withdraw: (client) => count(leases.withdraw(client)),
      release: (client, address) => count(leases.release(client, address)),
      decline: (client, address) => count(leases.decline(client, address)),
      parameters: (client) => count(leases.parameters(client)),
      isStranger: (mac) => leases.isStranger(mac),
    },
    director: { decide: (client) => count(site.director.decide(client)) },
    loaderFor: (architecture) => ({ 0: 'undionly.kpxe', 7: 'snponly.efi' })[architecture],
    httpBase: `http://${SERVER}:8080`,
    timeline: { seen: () => undefined },
    clock: site.clock,
    log,
  });
  const stop = new AbortController();
  const running = server.run(stop.signal);
  return {
    idle: () => busy === 0,
    async stop() {
      stop.abort();
      await running;
    },
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

class FakeSocket extends EventEmitter {
  onSend: (bytes: Buffer) => void = () => undefined;
  close(): void {
    this.removeAllListeners();
  }
  send(bytes: Buffer, _port: number, _address: string, done: (error: Error | null) => void): void {
    this.onSend(bytes);
    done(null);
  }
}

function directWay(site: Site, log: Log, onReply: (bytes: Buffer) => void): ServerWay {
  const socket = new FakeSocket();
  const replies = new Replies(onReply);
  socket.onSend = (bytes) => replies.take(bytes);
  const server = serve(site, log, () => socket as unknown as Socket);
  return {
    ...server,
    say: (bytes) => void socket.emit('message', bytes, { address: '10.77.0.33', port: 68 }),
    next: (mac) => replies.next(mac),
  };
}

function socketWay(site: Site, log: Log, onReply: (bytes: Buffer) => void): ServerWay & { arrived(): Promise<void> } {
  const replies = new Replies(onReply);
  let [said, arrived, failed] = [0, 0, 0];
  const server = serve(site, log, () => {
    const socket = openDeviceSocket({ device: 'lo', port: 67 });
    // An answer to a relay that claims the server's own address comes back here, from its own port.
    socket.on('message', (_, from) => (arrived += from.port === 68 ? 1 : 0));
    return socket;
  });
  const client = openDeviceSocket({ device: 'lo', port: 68 });
  const relay = openDeviceSocket({ device: 'lo', port: 67, address: RELAY });
  for (const socket of [client, relay]) {
    socket.on('message', (bytes) => replies.take(bytes));
    socket.on('error', () => undefined);
  }
  return {
    ...server,
    say(bytes) {
      said++;
      client.send(bytes, 67, SERVER, (error) => (failed += error === null ? 0 : 1));
    },
    next: (mac) => replies.next(mac),
    async arrived() {
      await turnsUntil('datagrams arrive', () => arrived + failed >= said);
      await turns();
    },
    async stop() {
      await server.stop();
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
  // An INFORM's answer and a refusal hold no address.
  if (address === '0.0.0.0') return type === 2 ? 'an offer of nothing' : undefined;
  if (type === 6) return 'a refusal with an address';
  const own = reserved.get(mac);
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
