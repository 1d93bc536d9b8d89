import { once } from 'node:events';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { SECOND } from '../../appliance/kernel/clock.ts';
import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';
import type { MessageType } from '../../pxe/dhcp/options.ts';
import { readMessageType } from '../../pxe/dhcp/options.ts';
import type { DhcpPacket } from '../../pxe/dhcp/packet.ts';
import { BOOT_REPLY, encodePacket, parsePacket } from '../../pxe/dhcp/packet.ts';
import type { Notebook } from './statistics.ts';
import type { Wire } from './wire.ts';

/** A machine's way to DHCP servers. */
export interface DhcpPort {
  /**
   * Sends a message until an answer of one of these types is here. Rejects after the last retransmission. These keep real time,
   * however compressed the machines' own is: the server's is real, too.
   */
  ask(
    request: DhcpPacket,
    types: readonly MessageType[],
    wire: Pick<Wire, 'carry'>,
    signal: AbortSignal,
  ): Promise<DhcpPacket>;
}

export interface DhcpDeps {
  /** Real time. */
  readonly clock: Clock;
  readonly notes: Notebook;
}

/** A port with a socket behind it. */
export interface OpenDhcpPort extends DhcpPort {
  close(): Promise<void>;
}

/**
 * The client port of one network device, shared by all machines that are simulated on it: each is known by its hardware
 * address and transaction, as it would be behind a relay. The frames carry the device's own MAC.
 *
 * The packets are made and read by the server's own codec: that is held against udhcpc, dhclient, iPXE and EDK2 by its own
 * tests, and here it is what stands behind it that is put under load.
 */
export function openBroadcastPort(device: string, deps: DhcpDeps): OpenDhcpPort {
  const socket = openDeviceSocket({ device, port: CLIENT_PORT });
  const exchanges = new DhcpExchanges(deps);
  socket.on('message', (bytes) => {
    const packet = parsePacket(bytes);
    if (typeof packet !== 'string' && packet.op === BOOT_REPLY) exchanges.heard(packet);
  });
  return {
    ask: (request, types, wire, signal) => {
      const bytes = encodePacket(request);
      const send = () => socket.send(bytes, SERVER_PORT, '255.255.255.255');
      return exchanges.ask(request, types, { send, wire, signal });
    },
    async close() {
      const closed = once(socket, 'close');
      socket.close();
      await closed;
    },
  };
}

export const SERVER_PORT = 67;
const CLIENT_PORT = 68;
// RFC 2131 §4.1: doubled each time. PXE 2.1 §2.2.4 begins with 4 s, iPXE with 1 s.
const PATIENCE: readonly Millis[] = [1, 2, 4, 8].map((seconds) => seconds * SECOND);

interface Sending {
  readonly send: () => void;
  readonly wire: Pick<Wire, 'carry'>;
  readonly signal: AbortSignal;
}

/** Who waits for which answer. */
export class DhcpExchanges {
  readonly #deps: DhcpDeps;
  readonly #waiting = new Map<string, (answer: DhcpPacket) => void>();

  constructor(deps: DhcpDeps) {
    this.#deps = deps;
  }

  async ask(request: DhcpPacket, types: readonly MessageType[], sending: Sending): Promise<DhcpPacket> {
    const { notes } = this.#deps;
    const answer = Promise.withResolvers<DhcpPacket>();
    const over = new AbortController();
    const signal = AbortSignal.any([sending.signal, over.signal]);
    const sent = { at: 0 };
    this.#waiting.set(exchangeOf(request), (packet) => {
      if (!types.includes(readMessageType(packet.options)!)) return;
      notes.answered('dhcp', performance.now() - sent.at);
      sending.wire.carry(() => answer.resolve(packet), signal);
    });
    try {
      return await Promise.race([answer.promise, this.#repeat({ ...sending, signal }, sent)]);
    } finally {
      over.abort();
      this.#waiting.delete(exchangeOf(request));
    }
  }

  /** A reply from the network; one that nobody waits for is nobody's. */
  heard(packet: DhcpPacket): void {
    this.#waiting.get(exchangeOf(packet))?.(packet);
  }

  async #repeat({ send, wire, signal }: Sending, sent: { at: number }): Promise<never> {
    const { clock, notes } = this.#deps;
    for (const [tries, patience] of PATIENCE.entries()) {
      if (tries > 0) notes.count('dhcp: sent again');
      sent.at = performance.now();
      wire.carry(send, signal);
      await clock.sleepUntil(clock.now() + patience, signal);
    }
    notes.count('failed: dhcp');
    throw new Error('no DHCP server answers');
  }
}

function exchangeOf({ xid, chaddr }: DhcpPacket): string {
  return `${xid} ${Buffer.from(chaddr.subarray(0, 6)).toString('hex')}`;
}
