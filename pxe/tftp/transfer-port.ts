import type { RemoteInfo, Socket } from 'node:dgram';

import type { Clock } from '../../appliance/kernel/clock.ts';
import { parsePacket } from './packet.ts';
import type { Transfer } from './transfer.ts';

/** How a transfer ended. */
export interface Outcome {
  /** `lost`: the client fell silent; `stopped`: it sent an error or is gone, or the service ends. */
  readonly kind: 'done' | 'lost' | 'stopped';
  readonly reason?: string;
  /** The client's error. */
  readonly packet?: Buffer;
}

/**
 * A transfer on a port of its own, its TID (RFC 1350 §4). The socket is connected to the client's: the kernel answers strangers
 * (port unreachable) and never shows them, says when the client's port is closed, and needs no route for each packet.
 */
export class TransferPort {
  readonly peer: RemoteInfo;
  readonly transfer: Transfer;
  /** The transfer's own end, `10.77.0.1:40961`. */
  readonly address: string;
  readonly ended: Promise<Outcome>;
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #end = Promise.withResolvers<Outcome>();
  #open = true;

  /** Owns `socket` from now on. Throws, and closes it, when there is no way to the client. */
  constructor(socket: Socket, peer: RemoteInfo, transfer: Transfer, clock: Clock) {
    this.peer = peer;
    this.transfer = transfer;
    this.ended = this.#end.promise;
    this.#socket = socket;
    this.#clock = clock;
    const { address, port } = socket.address();
    this.address = `${address}:${String(port)}`;
    socket.on('error', (error: NodeJS.ErrnoException) => {
      // Anything else, such as an address that does not resolve for a moment, is a lost packet.
      if (error.code === 'ECONNREFUSED') this.end({ kind: 'stopped', reason: 'the client has closed its port' });
    });
    socket.on('message', (bytes) => this.#receive(bytes));
    socket.connect(peer.port, peer.address);
    try {
      // By now it is connected, since no name has to be looked up; or this throws, and the reason comes as an event.
      socket.remoteAddress();
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** Sends the first packets, and tells which. */
  begin(): readonly Buffer[] {
    const packets = this.transfer.begin(this.#clock.now());
    this.#send(packets);
    return packets;
  }

  /** Sends again what has waited for too long; to be called now and then. */
  expire(): void {
    if (!this.#open) return;
    this.#send(this.transfer.expire(this.#clock.now()));
    if (this.transfer.state === 'lost') this.end({ kind: 'lost' });
  }

  end(outcome: Outcome): void {
    if (!this.#open) return;
    this.#open = false;
    this.#socket.close();
    this.#end.resolve(outcome);
  }

  #receive(bytes: Buffer): void {
    const packet = this.#open ? parsePacket(bytes) : undefined;
    if (packet?.kind === 'error') {
      this.end({ kind: 'stopped', reason: packet.message, packet: bytes });
    } else if (packet?.kind === 'ack') {
      this.#send(this.transfer.acknowledge(packet.block, this.#clock.now()));
      if (this.transfer.state === 'done') this.end({ kind: 'done' });
    }
  }

  /** Without a callback: a packet that could not be sent is a lost one, and one turn of the event loop each is saved. */
  #send(packets: readonly Buffer[]): void {
    for (const packet of packets) this.#socket.send(packet);
  }
}
