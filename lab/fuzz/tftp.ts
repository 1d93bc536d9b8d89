import type { Socket } from 'node:dgram';
import { EventEmitter } from 'node:events';

import { SECOND } from '../../appliance/kernel/clock.ts';
import type { Clock } from '../../appliance/kernel/clock.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import type { DeviceSocketOptions } from '../../appliance/kernel/native-socket.ts';
import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';
import { TftpServer } from '../../pxe/tftp/server.ts';
import type { Find, Input, Target } from './campaign.ts';
import { turns, turnsUntil } from './campaign.ts';
import { countingLog, SERVER } from './site.ts';
import type { HeardTransfer } from './tftp-inputs.ts';
import { tftpInput } from './tftp-inputs.ts';

/**
 * Two TFTP servers: one on sockets in memory, the other on port 69 of this network, where every transfer has a real port.
 * Whatever comes back to a client is held against the files that are served.
 */
export async function openTftp(find: Find): Promise<Target> {
  const clock = new ManualClock();
  const log = countingLog(find);
  const reached = { data: 0, errors: 0, options: 0, started: 0, done: 0, stopped: 0, lost: 0, refused: 0 };
  const tell = (event: string) => {
    if (event in reached) reached[event as keyof typeof reached]++;
  };
  const hear = (bytes: Buffer) => {
    const complaint = wrongPacket(bytes);
    if (complaint !== undefined) find(`${complaint}: ${bytes.subarray(0, 64).toString('hex')}`);
    tell(['data', 'acknowledgements', 'errors', 'options'][bytes[1]! - 3] ?? 'nothing');
  };
  const ways = {
    direct: memoryWay({ clock, log, tell }, hear),
    socket: await socketWay({ clock, log, tell }, hear),
  };
  let seconds = 0;

  const pass = async (span: number) => {
    seconds += span;
    await clock.advance(span * SECOND);
  };
  const settle = () => ways.socket.settle();
  return {
    reached,
    async feed(input: Input) {
      const way = ways[input.way];
      const { client, port, bytes } = tftpInput(input, CLIENTS, (one) => way.heard(one));
      way.say(client, port, bytes);
      // What a client hears is what its next packet is about.
      if (input.way === 'socket') await settle();
      if (input.index % A_SECOND === 0) await pass(1);
    },
    settle,
    async exchange() {
      await pass(1);
      for (const way of [ways.direct, ways.socket]) await fetchWhole(way);
    },
    async rest() {
      // Longer than any client may be silent.
      await pass(10 * 60);
      await turns();
      const refusals = log.lines.get('tftp refused') ?? 0;
      if (refusals > 2 * seconds) find(`${refusals} refusals are logged in ${seconds} s`);
    },
    async state() {
      const [direct, socket] = [ways.direct.open(), ways.socket.open()];
      const running = reached.started - reached.done - reached.stopped - reached.lost;
      return { direct, socket, running, waiting: clock.nextWake() };
    },
    async close() {
      await ways.direct.stop();
      await ways.socket.stop();
    },
  };
}

/** What a client does: the last one fetches, all others are hostile. */
const CLIENTS = 40;
const A_SECOND = 250;

interface TftpWay {
  say(client: number, port: number, bytes: Buffer): void;
  heard(client: number): HeardTransfer | undefined;
  /** The next packet to the client, and the port it came from. */
  next(client: number): Promise<{ bytes: Buffer; port: number }>;
  /** Sockets of the server that are open. */
  open(): number;
  stop(): Promise<void>;
}

interface ServerDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly tell: (event: string) => void;
}

const files = new Map([
  ['snponly.efi', content(20_000)],
  ['undionly.kpxe', content(4_096)],
  ['empty', Buffer.alloc(0)],
]);

function content(length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, index) => (index * 31) ^ (index >> 8) ^ length));
}

function serve({ clock, log, tell }: ServerDeps, open: (options: DeviceSocketOptions) => Socket) {
  const server = new TftpServer({
    endpoints: [{ address: SERVER, device: 'lo' }],
    files,
    clock,
    log,
    open,
    onEvent: ({ kind }) => tell(kind),
  });
  const stop = new AbortController();
  const running = server.run(stop.signal);
  return async () => {
    stop.abort();
    await running;
  };
}

/** What clients have heard, and who waits for more. */
class Ears {
  readonly #heard = new Map<number, HeardTransfer>();
  readonly #queues = new Map<number, { bytes: Buffer; port: number }[]>();
  readonly #hear: (bytes: Buffer) => void;

  constructor(hear: (bytes: Buffer) => void) {
    this.#hear = hear;
  }

  take(client: number, bytes: Buffer, port: number): void {
    this.#hear(bytes);
    if (port !== 69) this.#heard.set(client, { port, block: bytes[1] === 3 ? bytes.readUInt16BE(2) : 0 });
    this.#queues.get(client)?.push({ bytes, port });
  }

  heard(client: number): HeardTransfer | undefined {
    return this.#heard.get(client);
  }

  async next(client: number): Promise<{ bytes: Buffer; port: number }> {
    const queue = this.#queues.get(client) ?? [];
    this.#queues.set(client, queue);
    await turnsUntil('a packet of the server', () => queue.length > 0);
    return queue.shift()!;
  }
}

type Deliver = (from: number, bytes: Buffer, to: { port: number; address: string }) => void;

/** As much of a UDP socket as the server uses. */
class MemorySocket extends EventEmitter {
  readonly port: number;
  peer: { port: number; address: string } | undefined;
  readonly #send: Deliver;
  readonly #close: (port: number) => void;

  constructor(port: number, send: Deliver, close: (port: number) => void) {
    super();
    this.port = port;
    this.#send = send;
    this.#close = close;
  }

  connect(port: number, address: string): void {
    this.peer = { port, address };
  }
  remoteAddress(): { address: string; port: number } | undefined {
    return this.peer;
  }
  send(bytes: Buffer, port?: number, address?: string): void {
    const to = port === undefined || address === undefined ? this.peer! : { port, address };
    this.#send(this.port, bytes, to);
  }
  address(): { address: string; port: number } {
    return { address: SERVER, port: this.port };
  }
  setRecvBufferSize(): void {
    // Memory is as large as it is.
  }
  close(): void {
    this.#close(this.port);
  }
}

function memoryWay(deps: ServerDeps, hear: (bytes: Buffer) => void): TftpWay {
  const ears = new Ears(hear);
  const sockets = new Map<number, MemorySocket>();
  let nextPort = 40_000;
  const stop = serve(deps, ({ port }) => {
    const own = port === 0 ? nextPort++ : port;
    const socket = new MemorySocket(
      own,
      (from, bytes, to) => ears.take(to.port - FIRST_CLIENT_PORT, bytes, from),
      (closed) => sockets.delete(closed),
    );
    sockets.set(own, socket);
    return socket as unknown as Socket;
  });
  return {
    stop,
    heard: (client) => ears.heard(client),
    next: (client) => ears.next(client),
    open: () => sockets.size,
    say(client, port, bytes) {
      const socket = sockets.get(port);
      const peer = { address: addressOf(client), port: FIRST_CLIENT_PORT + client };
      // A connected socket hears its peer alone.
      const isForeign = socket?.peer !== undefined && socket.peer.port !== peer.port;
      if (!isForeign) socket?.emit('message', bytes, { ...peer, family: 'IPv4', size: bytes.length });
    },
  };
}

async function socketWay(
  deps: ServerDeps,
  hear: (bytes: Buffer) => void,
): Promise<TftpWay & { settle(): Promise<void> }> {
  const ears = new Ears(hear);
  let [open, said, sent, arrived] = [0, 0, 0, 0];
  const stop = serve(deps, (options) => {
    const socket = openDeviceSocket(options);
    open++;
    socket.once('close', () => open--);
    if (options.port !== 0) socket.on('message', () => arrived++);
    return socket;
  });
  const clients = Array.from({ length: CLIENTS + 1 }, (_, client) => {
    const socket = openDeviceSocket({ address: addressOf(client), port: FIRST_CLIENT_PORT + client });
    socket.on('message', (bytes, { port }) => ears.take(client, bytes, port));
    socket.on('error', () => undefined);
    return socket;
  });
  return {
    heard: (client) => ears.heard(client),
    next: (client) => ears.next(client),
    open: () => open,
    say(client, port, bytes) {
      const atServer = port === 69;
      if (atServer) said++;
      clients[client]!.send(bytes, port, SERVER, () => sent++);
    },
    async settle() {
      await turnsUntil('requests arrive', () => arrived >= said);
      await turns(2);
    },
    async stop() {
      await stop();
      for (const socket of clients) socket.close();
      await turnsUntil('the sockets close', () => open === 0);
    },
  };
}

const FIRST_CLIENT_PORT = 20_000;

function addressOf(client: number): string {
  return `10.77.1.${client + 1}`;
}

/** A good client fetches a file in windows of four blocks, to its last byte. */
async function fetchWhole(way: TftpWay): Promise<void> {
  const parts: Buffer[] = [];
  const ask = (packet: Buffer, port: number) => way.say(CLIENTS, port, packet);
  const first = way.next(CLIENTS);
  ask(Buffer.from('\0\x01snponly.efi\0octet\0blksize\x001468\0tsize\x000\0windowsize\x004\0', 'latin1'), 69);
  const { bytes: granted, port } = await first;
  const text = granted.toString('latin1');
  if (text !== '\0\x06blksize\x001468\0windowsize\x004\0tsize\x0020000\0') throw new Error(`other options: ${text}`);
  ask(Buffer.of(0, 4, 0, 0), port);
  for (;;) {
    const { bytes } = await way.next(CLIENTS);
    if (bytes[1] !== 3 || bytes.readUInt16BE(2) !== parts.length + 1) throw new Error(`not block ${parts.length + 1}`);
    parts.push(bytes.subarray(4));
    const isLast = bytes.length < 4 + 1_468;
    if (parts.length % 4 === 0 || isLast) ask(Buffer.of(0, 4, parts.length >> 8, parts.length & 0xff), port);
    if (isLast) break;
  }
  if (!Buffer.concat(parts).equals(files.get('snponly.efi')!)) throw new Error('the file came broken');
}

/** What the server may never say: anything else than options, errors and pieces of its files. */
function wrongPacket(bytes: Buffer): string | undefined {
  if (bytes.length < 4 || bytes[0] !== 0) return 'no packet of a server';
  if (bytes[1] === 5) return bytes.length > 128 ? 'a long error' : undefined;
  if (bytes[1] === 6) return bytes.length > 128 ? 'more options than were asked for' : undefined;
  if (bytes[1] !== 3) return 'neither data, error nor options';
  if (bytes.length > 4 + 1_468) return 'a longer block than the longest';
  const isPiece = [...files.values(), ...texts].some((file) => file.includes(bytes.subarray(4)));
  return isPiece ? undefined : 'data of no file';
}

// netascii: CR LF for LF, CR NUL for CR (RFC 764).
const texts = [...files.values()].map((file) =>
  Buffer.from(
    file.toString('latin1').replace(/\r|\n/g, (end) => (end === '\r' ? '\r\0' : '\r\n')),
    'latin1',
  ),
);
