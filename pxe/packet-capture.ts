/**
 * Datagrams of a timeline as a capture file that Wireshark and tcpdump read: libpcap's classic format
 * (draft-ietf-opsawg-pcap), microseconds, Ethernet. What was seen is UDP; the headers below it are made up here, with
 * lengths and the IPv4 checksum right.
 */
import { isIPv4 } from 'node:net';

import type { Millis } from '../appliance/kernel/clock.ts';
import type { SeenPacket } from './timeline.ts';

/** What such a file begins with. */
export function captureHeader(): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(SNAP_LENGTH, 16);
  header.writeUInt32LE(LINKTYPE_ETHERNET, 20);
  return header;
}

/** One packet of it. Undefined for one whose ends are no IPv4 addresses with ports, or that no datagram could hold. */
export function captureRecord(at: Millis, { from, to, bytes }: SeenPacket): Buffer | undefined {
  const [source, destination] = [endOf(from), endOf(to)];
  if (source === undefined || destination === undefined || bytes.length > LONGEST_DATAGRAM) return undefined;
  const frame = Buffer.concat([
    ethernet(source, destination),
    ipv4(source, destination, bytes.length),
    udp(source, destination, bytes.length),
    bytes,
  ]);
  const header = Buffer.alloc(16);
  header.writeUInt32LE(Math.floor(at / 1000), 0);
  header.writeUInt32LE(Math.round((at % 1000) * 1000), 4);
  header.writeUInt32LE(frame.length, 8);
  header.writeUInt32LE(frame.length, 12);
  return Buffer.concat([header, frame]);
}

const SNAP_LENGTH = 262_144; // tcpdump's own
const LINKTYPE_ETHERNET = 1;
const LONGEST_DATAGRAM = 65_535 - 20 - 8;

interface End {
  readonly address: Buffer;
  readonly port: number;
}

function endOf(text: string): End | undefined {
  const [address = '', port = '', ...rest] = text.split(':');
  if (!isIPv4(address) || !/^\d{1,5}$/.test(port) || Number(port) > 65_535 || rest.length > 0) return undefined;
  return { address: Buffer.from(address.split('.').map(Number)), port: Number(port) };
}

function ethernet(source: End, destination: End): Buffer {
  return Buffer.concat([macOf(destination.address), macOf(source.address), Buffer.from([0x08, 0x00])]);
}

/** Nobody's real one: locally administered, made of the address, so that the two directions of a talk fit together. */
function macOf(address: Buffer): Buffer {
  const isBroadcast = address.every((byte) => byte === 0xff);
  return isBroadcast ? Buffer.alloc(6, 0xff) : Buffer.concat([Buffer.from([0x02, 0x00]), address]);
}

function ipv4(source: End, destination: End, length: number): Buffer {
  const header = Buffer.alloc(20);
  header[0] = 0x45; // version 4, five words
  header.writeUInt16BE(20 + 8 + length, 2);
  header.writeUInt16BE(0x4000, 6); // don't fragment
  header[8] = 64;
  header[9] = 17; // UDP
  source.address.copy(header, 12);
  destination.address.copy(header, 16);
  header.writeUInt16BE(checksum(header), 10);
  return header;
}

// No checksum: 0 says so (RFC 768), and the bytes of secrets were overwritten.
function udp(source: End, destination: End, length: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(source.port, 0);
  header.writeUInt16BE(destination.port, 2);
  header.writeUInt16BE(8 + length, 4);
  return header;
}

/** RFC 1071, over an even number of bytes. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
