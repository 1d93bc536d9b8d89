import { RackstartError } from '../../appliance/kernel/errors.ts';
import { ipv4ToNumber, numberToIpv4 } from './ipv4.ts';

/** Option code → value; of an option that came more than once, the joined values (RFC 3396). In the order sent. */
export type Options = ReadonlyMap<number, Uint8Array>;

/** A DHCP message, RFC 2131 §2. Addresses are dotted text; `0.0.0.0` is "none". */
export interface DhcpPacket {
  readonly op: number;
  readonly hardwareType: number;
  readonly hardwareLength: number;
  readonly hops: number;
  readonly xid: number;
  readonly secs: number;
  readonly flags: number;
  readonly ciaddr: string;
  readonly yiaddr: string;
  readonly siaddr: string;
  readonly giaddr: string;
  /** 16 bytes, of which the first `hardwareLength` count. */
  readonly chaddr: Uint8Array;
  /** Empty when the field carries options instead. */
  readonly sname: string;
  readonly file: string;
  readonly options: Options;
  /** To be written into the fields instead of `file` and `sname`, where option 52 says so; what is read has all in `options`. */
  readonly overload?: { readonly file: Options; readonly sname: Options };
}

export const BOOT_REQUEST = 1;
export const BOOT_REPLY = 2;
export const BROADCAST_FLAG = 0x8000;
export const NO_ADDRESS = '0.0.0.0';

/** Reads a datagram. Never throws: what is no DHCP message comes back as the reason why. */
export function parsePacket(bytes: Buffer): DhcpPacket | string {
  if (bytes.length < FIXED_LENGTH) return 'truncated';
  if (bytes.length > LONGEST) return 'oversized';
  if (bytes.readUInt32BE(COOKIE_AT) !== MAGIC_COOKIE) return 'no magic cookie';
  const hardwareLength = bytes.readUInt8(2);
  if (hardwareLength > CHADDR_LENGTH) return 'hardware address too long';

  const options = new Map<number, Uint8Array>();
  if (!readOptions(bytes, FIXED_LENGTH, bytes.length, options)) return 'an option passes the end';
  // RFC 2131 §4.1: the fields are read once, `file` first; option 52 inside them means nothing, so that none loops.
  const overload = options.get(OPTION_OVERLOAD)?.[0] ?? 0;
  const inFile = (overload & 1) !== 0;
  const inSname = (overload & 2) !== 0;
  if (inFile && !readOptions(bytes, FILE_AT, COOKIE_AT, options)) return 'an option passes the end of file';
  if (inSname && !readOptions(bytes, SNAME_AT, FILE_AT, options)) return 'an option passes the end of sname';

  return {
    op: bytes.readUInt8(0),
    hardwareType: bytes.readUInt8(1),
    hardwareLength,
    hops: bytes.readUInt8(3),
    xid: bytes.readUInt32BE(4),
    secs: bytes.readUInt16BE(8),
    flags: bytes.readUInt16BE(10),
    ciaddr: addressAt(bytes, 12),
    yiaddr: addressAt(bytes, 16),
    siaddr: addressAt(bytes, 20),
    giaddr: addressAt(bytes, 24),
    chaddr: bytes.subarray(CHADDR_AT, SNAME_AT),
    sname: inSname ? '' : textAt(bytes, SNAME_AT, FILE_AT),
    file: inFile ? '' : textAt(bytes, FILE_AT, COOKIE_AT),
    options,
  };
}

/** The datagram of a message; its options in the order of the map, values over 255 bytes split (RFC 3396). */
export function encodePacket(packet: DhcpPacket): Buffer {
  // Out of Buffer's pool: memory of its own for each reply is the larger part of what encoding one costs.
  const bytes = Buffer.allocUnsafe(Math.max(encodedLength(packet.options), BOOTP_LENGTH)).fill(0);
  bytes.writeUInt8(packet.op, 0);
  bytes.writeUInt8(packet.hardwareType, 1);
  bytes.writeUInt8(packet.hardwareLength, 2);
  bytes.writeUInt8(packet.hops, 3);
  bytes.writeUInt32BE(packet.xid, 4);
  bytes.writeUInt16BE(packet.secs, 8);
  bytes.writeUInt16BE(packet.flags, 10);
  bytes.writeUInt32BE(ipv4ToNumber(packet.ciaddr), 12);
  bytes.writeUInt32BE(ipv4ToNumber(packet.yiaddr), 16);
  bytes.writeUInt32BE(ipv4ToNumber(packet.siaddr), 20);
  bytes.writeUInt32BE(ipv4ToNumber(packet.giaddr), 24);
  bytes.set(packet.chaddr.subarray(0, CHADDR_LENGTH), CHADDR_AT);
  const { file, sname } = packet.overload ?? {};
  if (sname === undefined || sname.size === 0) writeText(bytes, packet.sname, SNAME_AT, FILE_AT);
  else writeOptions(bytes, SNAME_AT, sname);
  if (file === undefined || file.size === 0) writeText(bytes, packet.file, FILE_AT, COOKIE_AT);
  else writeOptions(bytes, FILE_AT, file);
  bytes.writeUInt32BE(MAGIC_COOKIE, COOKIE_AT);
  writeOptions(bytes, FIXED_LENGTH, packet.options);
  return bytes;
}

/** Bytes of a message with these options, before padding. */
export function encodedLength(options: Options): number {
  let length = FIXED_LENGTH + 1;
  for (const value of options.values())
    length += value.length + 2 * Math.max(1, Math.ceil(value.length / LONGEST_VALUE));
  return length;
}

/** Bytes of the fields that options may spread to, END included. */
export const SNAME_LENGTH = 64;
export const FILE_LENGTH = 128;

const CHADDR_AT = 28;
const CHADDR_LENGTH = 16;
const SNAME_AT = 44;
const FILE_AT = SNAME_AT + SNAME_LENGTH;
const COOKIE_AT = FILE_AT + FILE_LENGTH;
const FIXED_LENGTH = 240;
const MAGIC_COOKIE = 0x63825363;
// What fits an Ethernet frame; no client or relay is known to send a fragmented DHCP message.
const LONGEST = 1472;
// Relays and old ROMs drop what is shorter than a BOOTP message (RFC 1542 §2.1).
const BOOTP_LENGTH = 300;
const LONGEST_VALUE = 255;
const PAD = 0;
const END = 255;
const OPTION_OVERLOAD = 52;

function writeOptions(bytes: Buffer, from: number, options: Options): void {
  let at = from;
  for (const [code, value] of options) {
    for (let start = 0; start === 0 || start < value.length; start += LONGEST_VALUE) {
      const part = value.subarray(start, start + LONGEST_VALUE);
      bytes[at] = code;
      bytes[at + 1] = part.length;
      bytes.set(part, at + 2);
      at += 2 + part.length;
    }
  }
  bytes[at] = END;
}

// False when a length passes the end. A missing END is forgiven, as every other server does.
function readOptions(bytes: Buffer, from: number, end: number, into: Map<number, Uint8Array>): boolean {
  let at = from;
  while (at < end) {
    const code = bytes[at++];
    if (code === undefined || code === END) return true;
    if (code === PAD) continue;
    const length = at < end ? bytes[at++] : undefined;
    if (length === undefined || at + length > end) return false;
    // A view of the datagram, in a third of the time that `subarray` of a Buffer takes.
    const value = new Uint8Array(bytes.buffer, bytes.byteOffset + at, length);
    const earlier = into.get(code);
    into.set(code, earlier === undefined ? value : Buffer.concat([earlier, value]));
    at += length;
  }
  return true;
}

function addressAt(bytes: Buffer, at: number): string {
  const value = bytes.readUInt32BE(at);
  return value === 0 ? NO_ADDRESS : numberToIpv4(value);
}

function textAt(bytes: Buffer, from: number, to: number): string {
  if (bytes[from] === 0) return '';
  const end = bytes.indexOf(0, from);
  return bytes.toString('latin1', from, end === -1 || end > to ? to : end);
}

// With the terminating zero: BOOTP fields are C strings.
function writeText(bytes: Buffer, text: string, from: number, to: number): void {
  if (Buffer.byteLength(text, 'latin1') >= to - from) {
    throw new RackstartError('internal', `${text.length} characters do not fit a field of ${to - from} bytes`);
  }
  bytes.write(text, from, 'latin1');
}
