import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIP } from 'node:net';

import type { Clock, Millis } from '../../../kernel/clock.ts';
import { RackstartError } from '../../../kernel/errors.ts';

/** How long to wait for an answer before asking again, and how often to ask in all. */
export interface Patience {
  each: Millis;
  times: number;
}

/** A UDP socket that hears one BMC only: connected, so that the kernel drops what others send to it. */
export class BmcSocket {
  readonly #socket: Socket;
  readonly #clock: Clock;
  #listener: ((packet: Buffer) => void) | undefined;
  #idle: ((packet: Buffer) => void) | undefined;
  #closed: Promise<void> | undefined;

  private constructor(socket: Socket, clock: Clock) {
    this.#socket = socket;
    this.#clock = clock;
    socket.on('message', (packet) => (this.#listener ?? this.#idle)?.(packet));
    // ECONNREFUSED comes here while a BMC restarts, and anyone can forge the ICMP message behind it: time will tell.
    socket.on('error', () => undefined);
  }

  static async connect(address: string, port: number, clock: Clock): Promise<BmcSocket> {
    const family = isIP(address);
    if (family === 0) throw new RackstartError('config.invalid', `BMC address ${address} is not an IP address`);
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
    try {
      const connected = once(socket, 'connect');
      socket.connect(port, address);
      await connected;
      return new BmcSocket(socket, clock);
    } catch (cause) {
      socket.close();
      throw new RackstartError('bmc.unreachable', `No route to BMC ${address}`, { cause });
    }
  }

  /**
   * Sends what `make` gives, at each attempt anew, until `accept` recognises an answer among the packets that come;
   * what it does not recognise changes nothing. Undefined when every attempt met silence. One question at a time.
   */
  async ask<T>(
    make: () => Buffer,
    accept: (packet: Buffer) => T | undefined,
    patience: Patience,
    signal: AbortSignal,
  ): Promise<T | undefined> {
    signal.throwIfAborted();
    const answered = Promise.withResolvers<T>();
    this.#listener = (packet) => {
      const answer = accept(packet);
      if (answer !== undefined) answered.resolve(answer);
    };
    const waiting = new AbortController();
    const stop = () => waiting.abort(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    try {
      for (let attempt = 0; attempt < patience.times; attempt++) {
        this.#socket.send(make(), unsent);
        const silence = this.#clock.sleepUntil(this.#clock.now() + patience.each, waiting.signal);
        const answer = await Promise.race([answered.promise, silence.then(() => undefined)]);
        if (answer !== undefined) return answer;
      }
      return undefined;
    } finally {
      this.#listener = undefined;
      signal.removeEventListener('abort', stop);
      waiting.abort(ANSWERED);
    }
  }

  /** Where packets go that come while nothing is asked; nowhere unless told. */
  hear(listener: (packet: Buffer) => void): void {
    this.#idle = listener;
  }

  /** Resolves when the packet is out, or cannot be sent: what is not sent is not answered. */
  async send(packet: Buffer): Promise<void> {
    if (this.#closed === undefined) await new Promise<void>((resolve) => this.#socket.send(packet, () => resolve()));
  }

  /** Closing twice is the same as once. */
  close(): Promise<void> {
    return (this.#closed ??= new Promise((resolve) => this.#socket.close(() => resolve())));
  }
}

const unsent = () => undefined; // what is not sent is not answered

// Without a reason, each abort builds an error with a stack trace: 5 µs for nobody.
const ANSWERED = Symbol('answered');
