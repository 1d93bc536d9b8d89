import { createSocket } from 'node:dgram';
import { once } from 'node:events';

import { option } from '../../pxe/dhcp/options.ts';
import type { DhcpPacket } from '../../pxe/dhcp/packet.ts';
import { BOOT_REPLY, encodePacket, NO_ADDRESS, parsePacket } from '../../pxe/dhcp/packet.ts';
import type { DhcpDeps, DhcpPort } from './dhcp-port.ts';
import { DhcpExchanges, SERVER_PORT } from './dhcp-port.ts';

/** A relay agent, as the switch of a routed rack is one. Plain JSON. */
export interface RelaySpec {
  /** Its address on the network of its machines: giaddr, and their gateway. */
  readonly address: string;
  /** Of option 82: which relay this is. */
  readonly remoteId: string;
}

export interface RelayAgent {
  /** The way to the server through one port of this switch, such as `port-7`. */
  port(circuitId: string): DhcpPort;
  close(): Promise<void>;
}

/**
 * A relay agent of this process: what its machines broadcast reaches the server as unicast from the relay's port 67, and what the
 * server answers comes back there (RFC 2131 §4.1, RFC 1542 §4). The machines' own segment is not simulated: they hand their packets
 * to their relay.
 */
export async function openRelayAgent(relay: RelaySpec, server: string, deps: DhcpDeps): Promise<RelayAgent> {
  const socket = createSocket('udp4');
  socket.bind(SERVER_PORT, relay.address);
  await once(socket, 'listening');
  const exchanges = new DhcpExchanges(deps);
  socket.on('message', (bytes) => {
    const packet = parsePacket(bytes);
    if (typeof packet === 'string' || packet.op !== BOOT_REPLY || packet.giaddr !== relay.address) return;
    if (!packet.options.has(option.relayAgent)) deps.notes.count('dhcp: option 82 not echoed');
    exchanges.heard(delivered(packet));
  });
  return {
    port: (circuitId) => ({
      ask: (request, types, wire, signal) => {
        const bytes = encodePacket(relayed(request, relay, circuitId));
        const send = () => socket.send(bytes, SERVER_PORT, server);
        return exchanges.ask(request, types, { send, wire, signal });
      },
    }),
    async close() {
      const closed = once(socket, 'close');
      socket.close();
      await closed;
    },
  };
}

/**
 * A client's message as a relay forwards it: giaddr set unless a relay before did, one hop more (RFC 1542 §4.1.1), and option 82 as the
 * last option, unless it is there already (RFC 3046 §2.1).
 */
export function relayed(packet: DhcpPacket, { address, remoteId }: RelaySpec, circuitId: string): DhcpPacket {
  const hops = packet.hops + 1;
  if (packet.giaddr !== NO_ADDRESS) return { ...packet, hops };
  const information = Buffer.concat([suboption(CIRCUIT_ID, circuitId), suboption(REMOTE_ID, remoteId)]);
  return { ...packet, hops, giaddr: address, options: new Map([...packet.options, [option.relayAgent, information]]) };
}

/** A reply as the relay hands it on: without option 82, which is none of the client's business (RFC 3046 §2.1). */
export function delivered(packet: DhcpPacket): DhcpPacket {
  const options = new Map(packet.options);
  options.delete(option.relayAgent);
  return { ...packet, options };
}

// RFC 3046 §2.0.
const CIRCUIT_ID = 1;
const REMOTE_ID = 2;

function suboption(code: number, text: string): Buffer {
  const value = Buffer.from(text);
  return Buffer.concat([Buffer.from([code, value.length]), value]);
}
