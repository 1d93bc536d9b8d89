import type { RemoteInfo, Socket } from 'node:dgram';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import { openDeviceSocket, type DeviceSocketOptions } from '../../appliance/kernel/native-socket.ts';
import type { Service } from '../../appliance/kernel/service.ts';
import { negotiate, type TransferLimits } from './options.ts';
import { encodeError, parsePacket, TFTP_ERROR, type TftpErrorCode, type TftpPacket } from './packet.ts';
import { Transfer } from './transfer.ts';

/** What is served: contents by bare file name. There is no file system behind it, and so nothing to escape to. */
export type TftpFiles = ReadonlyMap<string, Buffer>;

/** Where to listen: the server's own address, and the device where the host has more than one. */
export interface TftpEndpoint {
  readonly address: string;
  readonly device?: string | undefined;
}

export interface TftpEvent {
  /** `lost`: the client fell silent; `stopped`: it sent an error, or the service ends. `refused` never had a transfer. */
  readonly kind: 'started' | 'done' | 'lost' | 'stopped' | 'refused';
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
}

/** A read-only TFTP server (RFC 1350, 2347, 2348, 2349, 7440) for boot loaders. */
export class TftpServer implements Service {
  readonly name = 'tftp';
  readonly #options: TftpServerOptions;
  readonly #open: (options: DeviceSocketOptions) => Socket;
  readonly #limits: TftpLimits;
  readonly #active = new Set<ActiveTransfer>();

  constructor(options: TftpServerOptions) {
    this.#options = options;
    this.#open = options.open ?? openDeviceSocket;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
  }

  async run(signal: AbortSignal): Promise<void> {
    const { endpoints, port = 69 } = this.#options;
    const sockets: Socket[] = [];
    const stop = Promise.withResolvers<undefined>();
    const onAbort = () => stop.resolve(undefined);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    const ending = new AbortController();
    try {
      for (const endpoint of endpoints) {
        const socket = this.#open({ ...endpoint, port });
        sockets.push(socket);
        socket.on('error', (error) => stop.reject(error));
        socket.on('message', (bytes, peer) => this.#receive(endpoint, socket, bytes, peer, ending.signal));
      }
      await stop.promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
      for (const socket of sockets) socket.close();
      ending.abort();
    }
  }

  #receive(endpoint: TftpEndpoint, socket: Socket, bytes: Buffer, peer: RemoteInfo, signal: AbortSignal): void {
    // Port 0 cannot be answered. Nothing but a request belongs here, and an answer to anything else could be answered in
    // turn, without end.
    const packet = peer.port === 0 ? undefined : parsePacket(bytes);
    if (packet?.kind !== 'read' && packet?.kind !== 'write') return;
    const refuse = (code: TftpErrorCode, reason: string) => {
      this.#tell('refused', peer, packet.file, 0, { reason });
      transmit(socket, [encodeError(code, reason)], peer);
    };
    if (packet.kind === 'write') {
      refuse(TFTP_ERROR.accessViolation, 'this server is read-only');
      return;
    }
    // Firmware sends octet. netascii is the default of tftp-hpa at a person's terminal, and changes the bytes of a program on
    // the way: a clear refusal is better than a broken loader.
    if (packet.mode !== 'octet') {
      refuse(TFTP_ERROR.illegalOperation, 'use octet (binary) mode');
      return;
    }
    const data = this.#options.files.get(bareName(packet.file));
    if (data === undefined) {
      refuse(TFTP_ERROR.fileNotFound, 'no such file');
      return;
    }
    if (this.#isRepeated(bytes, peer)) return;
    // Silence, not an error: firmware asks again after some seconds, and gives up at an error.
    if (!this.#hasRoom(peer)) {
      this.#tell('refused', peer, packet.file, 0, { reason: 'too many transfers' });
      return;
    }
    this.#start(endpoint, packet, data, bytes, peer, signal);
  }

  /** A client repeats its request until it hears us: our own timer answers it, a second transfer would confuse it. */
  #isRepeated(request: Buffer, peer: RemoteInfo): boolean {
    return this.#active
      .values()
      .some((other) => samePeer(other.peer, peer) && !other.transfer.answered && other.request.equals(request));
  }

  #hasRoom(peer: RemoteInfo): boolean {
    if (this.#active.size >= this.#limits.transfers) return false;
    const ofPeer = this.#active.values().filter((other) => other.peer.address === peer.address);
    return [...ofPeer].length < this.#limits.transfersPerAddress;
  }

  #start(
    endpoint: TftpEndpoint,
    packet: Extract<TftpPacket, { file: string }>,
    data: Buffer,
    request: Buffer,
    peer: RemoteInfo,
    signal: AbortSignal,
  ): void {
    let socket: Socket;
    try {
      socket = this.#open({ ...endpoint, port: 0 });
    } catch (error) {
      // Out of descriptors or ports: the client asks again.
      this.#options.log.error({ error, address: peer.address }, 'a TFTP transfer got no socket');
      return;
    }
    const negotiated = negotiate(packet.options, data.length, this.#limits);
    const transfer = new Transfer(data, negotiated);
    const active: ActiveTransfer = { transfer, request: Buffer.from(request), peer };
    this.#active.add(active);
    const { blockSize, windowSize } = negotiated;
    this.#tell('started', peer, packet.file, 0, { blockSize, windowSize });
    void this.#serve(active, socket, signal).then(({ kind, ...more }) => {
      this.#active.delete(active);
      socket.close();
      this.#tell(kind, peer, packet.file, transfer.bytesAcknowledged, more);
    });
  }

  async #serve({ transfer, peer }: ActiveTransfer, socket: Socket, signal: AbortSignal): Promise<Outcome> {
    const { clock } = this.#options;
    const ended = new AbortController();
    let outcome: Outcome = { kind: 'stopped', reason: 'the service ends' };
    const end = (how: Outcome) => {
      outcome = how;
      ended.abort();
    };
    socket.on('error', (error) => end({ kind: 'stopped', reason: error.message }));
    socket.on('message', (bytes, sender) => {
      const packet = sender.port === 0 || ended.signal.aborted ? undefined : parsePacket(bytes);
      if (packet === undefined) return;
      if (!samePeer(sender, peer)) {
        // RFC 1350 §4. Never an error for an error: two programs could go on like that for ever.
        if (packet.kind === 'error') return;
        transmit(socket, [encodeError(TFTP_ERROR.unknownTransfer, 'unknown transfer')], sender);
        return;
      }
      if (packet.kind === 'error') {
        end({ kind: 'stopped', reason: printable(packet.message) });
        return;
      }
      if (packet.kind !== 'ack') return;
      transmit(socket, transfer.acknowledge(packet.block, clock.now()), peer);
      if (transfer.state === 'done') end({ kind: 'done' });
    });
    transmit(socket, transfer.begin(clock.now()), peer);
    const wake = AbortSignal.any([signal, ended.signal]);
    while (transfer.state === 'running') {
      try {
        await clock.sleepUntil(transfer.retryAt, wake);
      } catch {
        return outcome;
      }
      transmit(socket, transfer.expire(clock.now()), peer);
    }
    return { kind: 'lost' };
  }

  #tell(kind: TftpEvent['kind'], peer: RemoteInfo, file: string, bytes: number, more: Partial<TftpEvent> = {}): void {
    const { clock, log, onEvent } = this.#options;
    const event = { address: peer.address, port: peer.port, file: printable(file), bytes, ...more };
    log.info(event, `tftp ${kind}`);
    onEvent?.({ kind, at: clock.now(), ...event });
  }
}

/**
 * The file a firmware means by a path: it puts slashes or the directory of the last file before the name, and some ROMs take
 * DHCP option 67 for zero-terminated text, so that the bytes behind it (0xFF, the end of the options) trail the name.
 */
export function bareName(path: string): string {
  return path.replace(/[^\x20-\x7e].*$/s, '').replace(/^.*[/\\]/s, '');
}

interface ActiveTransfer {
  readonly transfer: Transfer;
  readonly request: Buffer;
  readonly peer: RemoteInfo;
}

interface Outcome {
  readonly kind: 'done' | 'lost' | 'stopped';
  readonly reason?: string;
}

const DEFAULT_LIMITS: TftpLimits = { blockSize: 1468, windowSize: 64, transfers: 500, transfersPerAddress: 8 };

function samePeer(one: RemoteInfo, other: RemoteInfo): boolean {
  return one.port === other.port && one.address === other.address;
}

function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?');
}

function transmit(socket: Socket, packets: readonly Buffer[], { port, address }: RemoteInfo): void {
  // A packet that could not be sent is a lost one: the timer sends it again.
  for (const packet of packets) socket.send(packet, port, address, () => undefined);
}
