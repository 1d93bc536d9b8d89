import type { RemoteInfo, Socket } from 'node:dgram';

import { systemClock } from '../../appliance/kernel/clock.ts';
import type { Millis } from '../../appliance/kernel/clock.ts';
import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';
import { seededRandom } from './seeded-random.ts';

/** The share of datagrams, each way, that meet a mishap: 0.02 for 2 %. */
export interface LossRates {
  readonly lost?: number;
  /** Comes twice. */
  readonly doubled?: number;
  /** Comes up to `lateMs` later, and so behind others. */
  readonly late?: number;
  /** 20 unless told. */
  readonly lateMs?: Millis;
}

export interface UdpProxyOptions {
  readonly server: { readonly port: number; readonly address?: string };
  /** Where clients find it: 127.0.0.1 and a free port unless told. */
  readonly listen?: { readonly port?: number; readonly address?: string };
  readonly rates?: LossRates;
  /** The same seed gives the same mishaps to the same datagrams in the same order. */
  readonly seed?: number;
  /** What the client gets in place of each datagram of the server, before any mishap. */
  readonly rewrite?: (answer: Buffer) => readonly Buffer[];
}

/** Between clients and a server: a path that loses, doubles and delays datagrams, adds and changes them. */
export interface UdpProxy {
  readonly port: number;
  /** Datagrams the clients have sent so far. */
  readonly heard: () => number;
  /** What became of them, both ways. */
  readonly counts: () => Readonly<Record<'carried' | 'lost' | 'doubled' | 'late', number>>;
  stop(): Promise<void>;
}

/**
 * Starts a proxy in this process. Each client gets a port of its own towards the server, and each port that the server answers
 * from gets one towards the client, as TFTP's transfers need it.
 */
export function startUdpProxy(options: UdpProxyOptions): UdpProxy {
  const { server, listen = {}, rates = {}, rewrite = (answer: Buffer) => [answer] } = options;
  const { address: serverAddress = LOOPBACK } = server;
  const sockets: Socket[] = [];
  const backs = new Map<string, Socket>();
  const ended = new AbortController();
  const path = new LossyPath(rates, seededRandom(options.seed ?? 1), ended.signal);
  let heard = 0;

  const open = (port = 0) => {
    const socket = openDeviceSocket({ address: listen.address ?? LOOPBACK, port });
    // A server that is gone is a path that loses everything.
    socket.on('error', () => undefined);
    sockets.push(socket);
    return socket;
  };

  /** Takes to `serverPort` what clients send to `front`, and their answers back. */
  const forward = (front: Socket, serverPort: number) => {
    front.on('message', (packet, client) => {
      heard += 1;
      const back = backs.get(nameOf(client)) ?? openBack(client);
      path.carry(() => back.send(packet, serverPort, serverAddress));
    });
    return front;
  };

  const openBack = (client: RemoteInfo) => {
    const back = open();
    backs.set(nameOf(client), back);
    const fronts = new Map([[server.port, front]]);
    back.on('message', (answer, { port }) => {
      const from = fronts.get(port) ?? forward(open(), port);
      fronts.set(port, from);
      for (const packet of rewrite(answer)) path.carry(() => from.send(packet, client.port, client.address));
    });
    return back;
  };

  const front = forward(open(listen.port), server.port);
  return {
    port: front.address().port,
    heard: () => heard,
    counts: () => ({ ...path.counts }),
    async stop() {
      if (ended.signal.aborted) return;
      ended.abort();
      await Promise.all(sockets.map((socket) => new Promise<void>((closed) => socket.close(closed))));
    },
  };
}

class LossyPath {
  readonly counts = { carried: 0, lost: 0, doubled: 0, late: 0 };
  readonly #rates: LossRates;
  readonly #random: () => number;
  readonly #signal: AbortSignal;

  constructor(rates: LossRates, random: () => number, signal: AbortSignal) {
    this.#rates = rates;
    this.#random = random;
    this.#signal = signal;
  }

  /** Calls `deliver` for one datagram: at once, twice, later or never; not once the signal is aborted. */
  carry(deliver: () => void): void {
    if (this.#signal.aborted) return;
    const { lost = 0, doubled = 0, late = 0, lateMs = 20 } = this.#rates;
    const fate = this.#random();
    if (fate < lost) {
      this.counts.lost += 1;
      return;
    }
    this.counts.carried += 1;
    if (fate < lost + doubled) {
      this.counts.doubled += 1;
      deliver();
      deliver();
    } else if (fate < lost + doubled + late) {
      this.counts.late += 1;
      const at = systemClock.now() + lateMs * this.#random();
      systemClock.sleepUntil(at, this.#signal).then(deliver, () => undefined);
    } else {
      deliver();
    }
  }
}

const LOOPBACK = '127.0.0.1';

function nameOf({ address, port }: RemoteInfo): string {
  return `${address} ${port}`;
}
