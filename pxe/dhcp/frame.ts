import type { BpfInstruction } from '../../appliance/kernel/packet-socket.ts';
import type { Mac } from '../boot-client.ts';
import { ipv4ToNumber, numberToIpv4 } from './ipv4.ts';

/** A DHCP message in the Ethernet frame that it came in: the one place that tells the sender's MAC. */
export interface DhcpFrame {
  readonly sourceMac: Mac;
  readonly source: string;
  readonly destination: string;
  /** The UDP datagram's content. */
  readonly bytes: Buffer;
}

/**
 * Lets through what goes to a DHCP client: untagged IPv4, UDP, unfragmented, to port 68. Frames of other VLANs reach the
 * device too, with their tag put aside by the kernel.
 */
export function toDhcpClients(): readonly BpfInstruction[] {
  const drop = 11;
  const load = (code: number, k: number) => ({ code, jt: 0, jf: 0, k });
  const dropUnless = (at: number, k: number) => ({ code: JUMP_EQUAL, jt: 0, jf: drop - at - 1, k });
  return [
    load(LOAD_WORD, VLAN_TAG_PRESENT),
    dropUnless(1, 0),
    load(LOAD_HALF, ETHER_TYPE_AT),
    dropUnless(3, ETHER_TYPE_IPV4),
    load(LOAD_BYTE, ETHERNET + PROTOCOL_AT),
    dropUnless(5, UDP),
    load(LOAD_HALF, ETHERNET + FRAGMENT_AT),
    { code: JUMP_SET, jt: drop - 8, jf: 0, k: FRAGMENT_BITS },
    load(LOAD_HEADER_LENGTH, ETHERNET),
    load(LOAD_HALF_AT_X, ETHERNET + DESTINATION_PORT_AT),
    { code: JUMP_EQUAL, jt: 1, jf: 0, k: CLIENT_PORT },
    load(RETURN, 0),
    load(RETURN, 0xffff),
  ];
}

/** Reads a frame that passed `toDhcpClients`; undefined for one whose lengths do not add up. */
export function readDhcpFrame(frame: Buffer): DhcpFrame | undefined {
  const packet = frame.subarray(ETHERNET);
  if (packet.length < IP_HEADER || packet.readUInt8(0) >> 4 !== 4) return undefined;
  const headerLength = (packet.readUInt8(0) & 15) * 4;
  if (headerLength < IP_HEADER || packet.length < headerLength + UDP_HEADER) return undefined;
  const datagram = packet.subarray(headerLength);
  const length = datagram.readUInt16BE(4);
  if (length < UDP_HEADER || length > datagram.length) return undefined;
  return {
    sourceMac: frame.toString('hex', 6, 12).replace(/(..)(?=.)/g, '$1:') as Mac,
    source: numberToIpv4(packet.readUInt32BE(12)),
    destination: numberToIpv4(packet.readUInt32BE(16)),
    bytes: datagram.subarray(UDP_HEADER, length),
  };
}

/** The frame of a client that has no address yet: broadcast, from 0.0.0.0:68 to port 67. */
export function clientFrame(mac: Mac, bytes: Uint8Array): Buffer {
  const frame = Buffer.alloc(ETHERNET + IP_HEADER + UDP_HEADER + bytes.length);
  frame.fill(0xff, 0, 6);
  frame.write(mac.replaceAll(':', ''), 6, 'hex');
  frame.writeUInt16BE(ETHER_TYPE_IPV4, ETHER_TYPE_AT);
  const packet = frame.subarray(ETHERNET);
  packet.writeUInt8(0x45, 0);
  packet.writeUInt16BE(packet.length, 2);
  packet.writeUInt8(TIME_TO_LIVE, 8);
  packet.writeUInt8(UDP, PROTOCOL_AT);
  packet.writeUInt32BE(ipv4ToNumber('255.255.255.255'), 16);
  packet.writeUInt16BE(checksum(packet.subarray(0, IP_HEADER)), 10);
  const datagram = packet.subarray(IP_HEADER);
  datagram.writeUInt16BE(CLIENT_PORT, 0);
  datagram.writeUInt16BE(SERVER_PORT, 2);
  // No checksum: 0 is "none" (RFC 768).
  datagram.writeUInt16BE(datagram.length, 4);
  datagram.set(bytes, UDP_HEADER);
  return frame;
}

const CLIENT_PORT = 68;
const SERVER_PORT = 67;
const ETHERNET = 14;
const IP_HEADER = 20;
const UDP_HEADER = 8;
const UDP = 17;
const TIME_TO_LIVE = 64;
const ETHER_TYPE_AT = 12;
const ETHER_TYPE_IPV4 = 0x0800;
const PROTOCOL_AT = 9;
const FRAGMENT_AT = 6;
// More fragments, or an offset: the first alone would have a port, and no whole message.
const FRAGMENT_BITS = 0x3fff;
const DESTINATION_PORT_AT = 2;

// <linux/bpf_common.h>; SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT of <linux/filter.h>.
const LOAD_WORD = 0x20;
const LOAD_HALF = 0x28;
const LOAD_BYTE = 0x30;
const LOAD_HALF_AT_X = 0x48;
const LOAD_HEADER_LENGTH = 0xb1;
const JUMP_EQUAL = 0x15;
const JUMP_SET = 0x45;
const RETURN = 0x06;
const VLAN_TAG_PRESENT = 0xfffff000 + 48;

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
