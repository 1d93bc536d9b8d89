import type { Socket } from 'node:dgram';

import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';
import type { MessageType } from '../../pxe/dhcp/options.ts';
import { addresses, messageType, option } from '../../pxe/dhcp/options.ts';
import type { DhcpPacket } from '../../pxe/dhcp/packet.ts';
import { BOOT_REPLY, encodePacket } from '../../pxe/dhcp/packet.ts';

/** A DHCP server that somebody has left on the segment: it knows nobody, and answers everybody whom it hears, at once. */
export class ForeignDhcp {
  readonly address: string;
  readonly #socket: Socket;

  constructor(device: string, address: string) {
    this.address = address;
    this.#socket = openDeviceSocket({ device, port: 67, address });
  }

  /** Broadcasts its answer, with an address and nothing to boot. */
  answer(request: DhcpPacket, type: Extract<MessageType, 'offer' | 'ack'>): void {
    const reply: DhcpPacket = {
      ...request,
      op: BOOT_REPLY,
      yiaddr: OFFERED,
      options: new Map<number, Uint8Array>([
        [option.messageType, messageType(type)],
        [option.serverId, addresses(this.address)],
        [option.subnetMask, addresses('255.255.0.0')],
      ]),
    };
    this.#socket.send(encodePacket(reply), 68, '255.255.255.255');
  }

  close(): void {
    this.#socket.close();
  }
}

/** Of its own range. */
export const OFFERED = '10.77.255.251';
