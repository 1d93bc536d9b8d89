import type { RemoteInfo, Socket } from 'node:dgram';

import { SECOND, type Clock, type Millis } from '../../appliance/kernel/clock.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import { openDeviceSocket, type DeviceSocketOptions } from '../../appliance/kernel/native-socket.ts';
import type { Service } from '../../appliance/kernel/service.ts';
import { RateLimit } from '../rate-limit.ts';
import { Sparingly } from '../sparingly.ts';
import type { SeenPacket } from '../timeline.ts';
import { toNetascii } from './netascii.ts';
import { negotiate, type TransferLimits } from './options.ts';
import { encodeError, parsePacket, TFTP_ERROR, type TftpErrorCode, type TftpPacket } from './packet.ts';
import { Transfer } from './transfer.ts';
import { TransferPort, type Outcome } from './transfer-port.ts';

/** What is served: contents by bare file name. There is no file system behind it, and so nothing to escape to. */
export type TftpFiles = ReadonlyMap<string, Buffer>;

/** Where to listen: the server's own address, and the device where the host has more than one. */
export interface TftpEndpoint {
  readonly address: string;
  readonly device?: string | undefined;
}

export interface TftpEvent {
  /** `refused` never had a transfer; every other `request` is `started`, and ends as one of the others, see `Outcome`. */
  readonly kind: 'request' | 'refused' | 'started' | Outcome['kind'];
  readonly at: Millis;
  readonly address: string;
  readonly port: number;
  /** As the client named it, with `?` for what cannot be printed. */
  readonly file: string;
  /** Acknowledged so far. */
  readonly bytes: number;
  /** What was negotiated; only with `started`. */
  readonly blockSize?: number;
  readonly windowSize?: number;
  readonly reason?: string;
  /** The request, our option acknowledgement, or whose error it was; never data. */
  readonly packet?: SeenPacket;
}

export interface TftpServerOptions {
  readonly endpoints: readonly TftpEndpoint[];
  readonly port?: number;
  readonly files: TftpFiles;
  readonly clock: Clock;
  readonly log: Log;
  readonly onEvent?: (event: TftpEvent) => void;
  /** What opens sockets, for listening and (port 0) for each transfer. */
  readonly open?: (options: DeviceSocketOptions) => Socket;
  readonly limits?: Partial<TftpLimits>;
}

export interface TftpLimits extends TransferLimits {
  readonly transfers: number;
  readonly transfersPerAddress: number;
  /** Of one address; a client asks once, and again after a second or more. */
  readonly requestsPerSecond: number;
}

/** A read-only TFTP server (RFC 1350, 2347, 2348, 2349, 7440) for boot loaders. */
export class TftpServer implements Service {
  readonly name = 'tftp';
  readonly #options: TftpServerOptions;
  readonly #open: (options: DeviceSocketOptions) => Socket;
  readonly #limits: TftpLimits;
  /** In the order in which they came. */
  readonly #active = new Set<Active>();
  readonly #texts = new Map<string, Buffer>();
  readonly #perAddress: RateLimit;
  readonly #refused: Sparingly;
  #retrying = false;

  constructor(options: TftpServerOptions) {
    this.#options = options;
    this.#open = options.open ?? openDeviceSocket;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#perAddress = new RateLimit(options.clock, SECOND, this.#limits.requestsPerSecond);
    this.#refused = new Sparingly(options.clock, SECOND);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { endpoints, port = 69 } = this.#options;
    const sockets: Socket[] = [];
    const stop = Promise.withResolvers<undefined>();
    const onAbort = () => stop.resolve(undefined);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      for (const endpoint of endpoints) {
        const socket = this.#open({ ...endpoint, port });
        sockets.push(socket);
        socket.on('error', (error) => stop.reject(error));
        socket.on('message', (bytes, peer) => this.#receive(endpoint, socket, bytes, peer, signal));
        // A rack that is switched on at once asks at once; the kernel cuts this to what it allows.
        socket.setRecvBufferSize(RECEIVE_BUFFER);
      }
      await stop.promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
      for (const socket of sockets) socket.close();
      for (const { port } of this.#active) port.end({ kind: 'stopped', reason: 'the service ends' });
    }
  }

  #receive(endpoint: TftpEndpoint, socket: Socket, bytes: Buffer, peer: RemoteInfo, signal: AbortSignal): void {
    // Port 0 cannot be answered. Nothing but a request belongs here, and an answer to anything else could be answered in
    // turn, without end.
    const packet = peer.port === 0 ? undefined : parsePacket(bytes);
    if (packet?.kind !== 'read' && packet?.kind !== 'write') return;
    if (!this.#perAddress.allows(peer.address)) {
      this.#log('refused', { address: peer.address, reason: 'too many requests' });
      return;
    }
    const [client, server] = [endOf(peer), endOf(socket.address())];
    this.#tell('request', peer, packet.file, 0, { packet: { from: client, to: server, bytes: Buffer.from(bytes) } });
    const answer = this.#consider(packet, bytes, peer);
    if (answer === 'repeated') return;
    if (Buffer.isBuffer(answer)) {
      if (this.#start(endpoint, packet, answer, bytes, peer)) void this.#retry(signal);
      return;
    }
    const { code, reason } = answer;
    const error = code === undefined ? undefined : encodeError(code, reason);
    if (error !== undefined) socket.send(error, peer.port, peer.address);
    const seen = error && { packet: { from: server, to: client, bytes: error } };
    this.#tell('refused', peer, packet.file, 0, { reason, ...seen });
  }

  /** What to send, or why not. */
  #consider(packet: Request, bytes: Buffer, peer: RemoteInfo): Buffer | 'repeated' | Refusal {
    if (packet.kind === 'write') return { code: TFTP_ERROR.accessViolation, reason: 'this server is read-only' };
    const data = this.#contents(packet);
    if (data === 'no such mode') return { code: TFTP_ERROR.illegalOperation, reason: 'use octet (binary) mode' };
    if (data === undefined) return { code: TFTP_ERROR.fileNotFound, reason: 'no such file' };
    if (this.#isRepeated(bytes, peer)) return 'repeated';
    // A machine boots once at a time: whoever has so many transfers running is told.
    if (!this.#hasRoomFor(peer)) return { code: TFTP_ERROR.undefined, reason: 'too many transfers of this address' };
    // Silence, not an error: firmware asks again after some seconds, and gives up at an error.
    return this.#hasRoom() ? data : { reason: 'too many transfers' };
  }

  #contents({ file, mode }: Request): Buffer | 'no such mode' | undefined {
    const name = bareName(file);
    const data = this.#options.files.get(name);
    if (mode === 'octet' || data === undefined) return data;
    if (mode !== 'netascii') return 'no such mode';
    // RFC 1123 §4.2 has it that netascii must be known, and it is what tftp-hpa asks for at a person's terminal.
    const text = this.#texts.get(name) ?? toNetascii(data);
    this.#texts.set(name, text);
    return text;
  }

  /** A client repeats its request until it hears us: our own timer answers it, a second transfer would confuse it. */
  #isRepeated(request: Buffer, peer: RemoteInfo): boolean {
    return this.#active
      .values()
      .some(({ port, request: first }) => isFrom(peer, port) && !port.transfer.answered && first.equals(request));
  }

  #hasRoomFor({ address }: RemoteInfo): boolean {
    let count = 0;
    for (const { port } of this.#active) if (port.peer.address === address) count += 1;
    return count < this.#limits.transfersPerAddress;
  }

  /** When all places are taken, the oldest one that was asked for and then never answered is given to the next. */
  #hasRoom(): boolean {
    if (this.#active.size < this.#limits.transfers) return true;
    const silent = this.#active.values().find(({ port }) => port.transfer.unheard);
    silent?.port.end({ kind: 'lost', reason: 'it never answered, and others wait' });
    return silent !== undefined && this.#active.delete(silent);
  }

  #start(endpoint: TftpEndpoint, packet: Request, data: Buffer, request: Buffer, peer: RemoteInfo): boolean {
    const negotiated = negotiate(packet.options, data.length, this.#limits);
    const transfer = new Transfer(data, negotiated);
    let port: TransferPort;
    try {
      port = new TransferPort(this.#open({ ...endpoint, port: 0 }), peer, transfer, this.#options.clock);
    } catch (error) {
      // Out of descriptors or ports, or no way back to where the request says that it is from: the client asks again.
      this.#options.log.error({ error, address: peer.address }, 'a TFTP transfer got no socket');
      return false;
    }
    const active: Active = { port, request: Buffer.from(request) };
    this.#active.add(active);
    const { blockSize, windowSize, granted } = negotiated;
    const [first] = port.begin();
    const ends = { from: port.address, to: endOf(peer) };
    const offered = first !== undefined && granted.size > 0 ? { packet: { ...ends, bytes: first } } : {};
    this.#tell('started', peer, packet.file, 0, { blockSize, windowSize, ...offered });
    void port.ended.then(({ kind, reason, packet: error }) => {
      this.#active.delete(active);
      const why = reason === undefined ? {} : { reason: printable(reason) };
      const seen = error && { packet: { from: endOf(peer), to: port.address, bytes: error } };
      this.#tell(kind, peer, packet.file, transfer.bytesAcknowledged, { ...why, ...seen });
    });
    return true;
  }

  /** One timer for all transfers, while there are any: five hundred of their own would each wake us ten times a second. */
  async #retry(signal: AbortSignal): Promise<void> {
    if (this.#retrying) return;
    this.#retrying = true;
    const { clock } = this.#options;
    while (this.#active.size > 0 && !signal.aborted) {
      await clock.sleepUntil(clock.now() + RETRY_EVERY, signal).catch(() => undefined);
      for (const { port } of this.#active) port.expire();
    }
    this.#retrying = false;
  }

  #tell(kind: TftpEvent['kind'], peer: RemoteInfo, file: string, bytes: number, more: Partial<TftpEvent> = {}): void {
    const { clock, onEvent } = this.#options;
    const { packet, ...facts } = more;
    const event = { address: peer.address, port: peer.port, file: printable(file), bytes, ...facts };
    // Each request is either refused or started.
    if (kind !== 'request') this.#log(kind, event);
    onEvent?.({ kind, at: clock.now(), ...event, ...(packet && { packet }) });
  }

  #log(kind: TftpEvent['kind'], facts: object): void {
    const { log } = this.#options;
    // Anybody can be refused as often as he likes.
    if (kind !== 'refused') log.info(facts, `tftp ${kind}`);
    else this.#refused.say((more) => log.info({ ...facts, more }, 'tftp refused'));
  }
}

/**
 * The file a firmware means by a path: it puts slashes or the directory of the last file before the name, and some ROMs take
 * DHCP option 67 for zero-terminated text, so that the bytes behind it (0xFF, the end of the options) trail the name.
 */
export function bareName(path: string): string {
  return path.replace(/[^\x20-\x7e].*$/s, '').replace(/^.*[/\\]/s, '');
}

type Request = Extract<TftpPacket, { file: string }>;

interface Refusal {
  /** None: nothing is said. */
  readonly code?: TftpErrorCode;
  readonly reason: string;
}

interface Active {
  readonly port: TransferPort;
  /** The bytes that began it. */
  readonly request: Buffer;
}

const DEFAULT_LIMITS: TftpLimits = {
  blockSize: 1468,
  windowSize: 64,
  transfers: 500,
  transfersPerAddress: 8,
  requestsPerSecond: 50,
};
const RECEIVE_BUFFER = 4 * 1024 * 1024;
const RETRY_EVERY: Millis = 50;

function isFrom(peer: RemoteInfo, { peer: other }: TransferPort): boolean {
  return peer.port === other.port && peer.address === other.address;
}

function endOf({ address, port }: { address: string; port: number }): string {
  return `${address}:${String(port)}`;
}

function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?');
}
