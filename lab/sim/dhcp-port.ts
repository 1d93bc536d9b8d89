import type { Socket } from 'node:dgram';
import { once } from 'node:events';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { SECOND } from '../../appliance/kernel/clock.ts';
import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';
import type { MessageType } from '../../pxe/dhcp/options.ts';
import { readMessageType } from '../../pxe/dhcp/options.ts';
import type { DhcpPacket } from '../../pxe/dhcp/packet.ts';
import { BOOT_REPLY, encodePacket, parsePacket } from '../../pxe/dhcp/packet.ts';

/**
 * The client port of one network device, shared by all machines that are simulated on it: each is known by its hardware
 * address and transaction, as it would be behind a relay. The frames carry the device's own MAC.
 *
 * The packets are made and read by the server's own codec: that is held against udhcpc, dhclient, iPXE and EDK2 by its own
 * tests, and here it is what stands behind it that is put under load.
 */
export class DhcpPort {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #waiting = new Map<string, (answer: DhcpPacket) => void>();

  constructor(device: string, clock: Clock) {
    this.#clock = clock;
    this.#socket = openDeviceSocket({ device, port: CLIENT_PORT });
    this.#socket.on('message', (bytes) => this.#heard(bytes));
  }

  /** Broadcasts a message until an answer of one of these types is here. Rejects after the last retransmission. */
  async ask(request: DhcpPacket, types: readonly MessageType[], signal: AbortSignal): Promise<DhcpPacket> {
    const answer = Promise.withResolvers<DhcpPacket>();
    this.#waiting.set(exchangeOf(request), (packet) => {
      if (types.includes(readMessageType(packet.options)!)) answer.resolve(packet);
    });
    const over = new AbortController();
    try {
      return await Promise.race([answer.promise, this.#repeat(request, AbortSignal.any([signal, over.signal]))]);
    } finally {
      over.abort();
      this.#waiting.delete(exchangeOf(request));
    }
  }

  async close(): Promise<void> {
    const closed = once(this.#socket, 'close');
    this.#socket.close();
    await closed;
  }

  async #repeat(request: DhcpPacket, signal: AbortSignal): Promise<never> {
    const bytes = encodePacket(request);
    for (const patience of PATIENCE) {
      this.#socket.send(bytes, SERVER_PORT, '255.255.255.255');
      await this.#clock.sleepUntil(this.#clock.now() + patience, signal);
    }
    throw new Error('no DHCP server answers');
  }

  #heard(bytes: Buffer): void {
    const packet = parsePacket(bytes);
    if (typeof packet !== 'string' && packet.op === BOOT_REPLY) this.#waiting.get(exchangeOf(packet))?.(packet);
  }
}

const SERVER_PORT = 67;
const CLIENT_PORT = 68;
// RFC 2131 §4.1: doubled each time. PXE 2.1 §2.2.4 begins with 4 s, iPXE with 1 s.
const PATIENCE: readonly Millis[] = [1, 2, 4, 8].map((seconds) => seconds * SECOND);

function exchangeOf({ xid, chaddr }: DhcpPacket): string {
  return `${xid} ${Buffer.from(chaddr.subarray(0, 6)).toString('hex')}`;
}
