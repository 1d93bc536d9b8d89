import type { BootClient } from '../boot-client.ts';
import { classify } from './classify.ts';
import type { LeaseClient } from './lease-book.ts';
import type { MessageType } from './options.ts';
import { option, readAddress, readHex, readMessageType, readText } from './options.ts';
import type { DhcpPacket } from './packet.ts';
import { BOOT_REQUEST, NO_ADDRESS, parsePacket } from './packet.ts';

/** A client's message, checked as far as it can be without knowing the network. */
export interface Request {
  readonly type: RequestType;
  readonly packet: DhcpPacket;
  readonly client: BootClient;
  readonly leaseClient: LeaseClient;
  /** Option 50. */
  readonly requested?: string;
  /** Option 54. */
  readonly serverId?: string;
}

/** Reads a datagram that came to the server's port. Never throws: what is no client's message comes back as the reason why. */
export function readRequest(bytes: Buffer): Request | string {
  const packet = parsePacket(bytes);
  if (typeof packet === 'string') return packet;
  if (packet.op !== BOOT_REQUEST) return 'not a request';
  const type = readMessageType(packet.options);
  if (type === undefined) return 'no message type';
  if (!isRequestType(type)) return "a server's message";
  const client = classify(packet);
  if (client === undefined) return 'no Ethernet address';
  const requested = readAddress(packet.options, option.requestedAddress);
  const serverId = readAddress(packet.options, option.serverId);
  return {
    type,
    packet,
    client,
    leaseClient: leaseClient(packet, client, requested),
    ...(requested === undefined ? {} : { requested }),
    ...(serverId === undefined ? {} : { serverId }),
  };
}

/** What a request says of its sender, for the timeline. */
export function requestFacts({
  packet,
  client,
  requested,
  serverId,
}: Request): Record<string, string | number | undefined> {
  return {
    xid: packet.xid.toString(16).padStart(8, '0'),
    kind: client.kind,
    architecture: client.architecture,
    uuid: client.uuid,
    vendorClass: readText(packet.options, option.vendorClass),
    requested: requested ?? given(packet.ciaddr),
    server: serverId,
    relay: given(packet.giaddr),
    port: client.port,
  };
}

const requestTypes = ['discover', 'request', 'decline', 'release', 'inform'] as const;
type RequestType = (typeof requestTypes)[number];

function isRequestType(type: MessageType): type is RequestType {
  return (requestTypes as readonly MessageType[]).includes(type);
}

function leaseClient(packet: DhcpPacket, { mac }: BootClient, requested: string | undefined): LeaseClient {
  const clientId = readHex(packet.options, option.clientId);
  const hostname = readText(packet.options, option.hostname);
  return {
    mac,
    ...(clientId === undefined ? {} : { clientId }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(requested === undefined ? {} : { requested }),
  };
}

function given(address: string): string | undefined {
  return address === NO_ADDRESS ? undefined : address;
}
