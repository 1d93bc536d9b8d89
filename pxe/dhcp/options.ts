import { numberToIpv4, ipv4ToNumber } from './ipv4.ts';
import type { Options } from './packet.ts';

/** The options that are read or written here, by their number (RFC 2132 unless said otherwise). */
export const option = {
  subnetMask: 1,
  router: 3,
  dns: 6,
  hostname: 12,
  broadcastAddress: 28,
  /** PXE 2.1 §2.2.2 gives it suboptions. */
  vendorSpecific: 43,
  requestedAddress: 50,
  leaseTime: 51,
  overload: 52,
  messageType: 53,
  serverId: 54,
  parameterList: 55,
  message: 56,
  maxMessageSize: 57,
  renewalTime: 58,
  rebindingTime: 59,
  vendorClass: 60,
  clientId: 61,
  tftpServer: 66,
  bootFile: 67,
  /** RFC 3004. */
  userClass: 77,
  /** RFC 3046. */
  relayAgent: 82,
  /** RFC 4578 §2.1. */
  architecture: 93,
  /** RFC 4578 §2.3. */
  machineId: 97,
  /** iPXE's own, with suboptions. */
  ipxe: 175,
} as const;

export type MessageType = (typeof messageTypes)[number];

const messageTypes = ['discover', 'offer', 'request', 'decline', 'ack', 'nak', 'release', 'inform'] as const;

/** Undefined for BOOTP and for what is no type, a type given twice included. */
export function readMessageType(options: Options): MessageType | undefined {
  const value = options.get(option.messageType);
  return value?.length === 1 ? messageTypes[(value[0] ?? 0) - 1] : undefined;
}

export function messageType(type: MessageType): Uint8Array {
  return Uint8Array.of(messageTypes.indexOf(type) + 1);
}

/** An address of exactly four bytes; 0.0.0.0 counts as none. */
export function readAddress(options: Options, code: number): string | undefined {
  const value = readUint(options, code, 4);
  return value === undefined || value === 0 ? undefined : numberToIpv4(value);
}

export function addresses(...list: readonly string[]): Uint8Array {
  const bytes = new Uint8Array(4 * list.length);
  list.forEach((address, index) => bytes.set(uint32(ipv4ToNumber(address)), 4 * index));
  return bytes;
}

export function uint32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

/** Printable ASCII, at most 128 characters, without the zero that some firmware appends; undefined for anything else. */
export function readText(options: Options, code: number): string | undefined {
  const value = options.get(code);
  if (value === undefined) return undefined;
  const text = Buffer.from(value).toString('latin1').replace(/\0+$/, '');
  return /^[\x20-\x7e]{1,128}$/.test(text) ? text : undefined;
}

/** Lower-case hex of an option of at most 255 bytes. */
export function readHex(options: Options, code: number): string | undefined {
  const value = options.get(code);
  return value === undefined || value.length === 0 || value.length > 255
    ? undefined
    : Buffer.from(value).toString('hex');
}

/** The options the client asks for, in its order; undefined when it did not say. */
export function readParameterList(options: Options): readonly number[] | undefined {
  const value = options.get(option.parameterList);
  return value === undefined ? undefined : [...new Set(value)];
}

/**
 * How many bytes of DHCP message the client takes. Option 57 speaks of the IP datagram by RFC 2132 §9.10, and some
 * firmware means the message alone: the smaller reading is right for both.
 */
export function readMaxMessageLength(options: Options): number {
  const datagram = readUint(options, option.maxMessageSize, 2) ?? LEAST_DATAGRAM;
  return Math.min(Math.max(datagram, LEAST_DATAGRAM), ETHERNET_MTU) - IP_AND_UDP_HEADERS;
}

/**
 * User classes in the form of RFC 3004 (each with its length before it) or, as iPXE sends it, one raw string: what
 * does not add up to its own length is raw.
 */
export function readUserClasses(options: Options): readonly string[] {
  const value = options.get(option.userClass);
  if (value === undefined || value.length === 0) return [];
  const bytes = Buffer.from(value);
  const classes: string[] = [];
  let at = 0;
  while (at < bytes.length) {
    const length = bytes.readUInt8(at);
    const next = at + 1 + length;
    if (length === 0 || next > bytes.length) return [bytes.toString('latin1')];
    classes.push(bytes.toString('latin1', at + 1, next));
    at = next;
  }
  return classes;
}

/** The first of the architectures a client names (RFC 4578 §2.1; the registry is IANA's "Processor Architecture Types"). */
export function readArchitecture(options: Options): number | undefined {
  const value = options.get(option.architecture);
  if (value === undefined || value.length < 2 || value.length % 2 !== 0) return undefined;
  return Buffer.from(value).readUInt16BE(0);
}

/**
 * The SMBIOS UUID of option 97 as RFC 4122 text. Its first three fields travel little-endian, as in SMBIOS 2.6 and in
 * EFI; RFC 4578 does not say so, EDK2 and iPXE both do. All zeros and all ones are how firmware says "none".
 */
export function readMachineUuid(options: Options): string | undefined {
  const value = options.get(option.machineId);
  if (value?.length !== 17 || value[0] !== 0) return undefined;
  const uuid = Buffer.from(value.subarray(1));
  if (uuid.every((byte) => byte === 0) || uuid.every((byte) => byte === 0xff)) return undefined;
  uuid.subarray(0, 4).reverse();
  uuid.subarray(4, 6).reverse();
  uuid.subarray(6, 8).reverse();
  return uuid.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

export interface RelayAgentInformation {
  /** Where on the relay, such as a switch port. */
  readonly circuitId?: string;
  /** Which relay. */
  readonly remoteId?: string;
  /** RFC 3527: an address of the client's network, where giaddr is none. */
  readonly link?: string;
}

/**
 * Option 82 (RFC 3046): empty when it is not there or does not add up. Ids are text where they can be shown as such, else
 * hex (`0x000400010107`).
 */
export function readRelayAgent(options: Options): RelayAgentInformation {
  const value = options.get(option.relayAgent);
  if (value === undefined) return {};
  const parts = new Map<number, Uint8Array>();
  for (let at = 0; at < value.length;) {
    const [code = 0, length = 0] = [value[at], value[at + 1]];
    if (at + 2 + length > value.length || parts.has(code)) return {};
    parts.set(code, value.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  const [circuitId, remoteId] = [idText(parts.get(1)), idText(parts.get(2))];
  const link = readAddress(parts, 5);
  return {
    ...(circuitId === undefined ? {} : { circuitId }),
    ...(remoteId === undefined ? {} : { remoteId }),
    ...(link === undefined ? {} : { link }),
  };
}

const LEAST_DATAGRAM = 576;
const ETHERNET_MTU = 1500;
const IP_AND_UDP_HEADERS = 28;

function readUint(options: Options, code: number, length: 2 | 4): number | undefined {
  const value = options.get(code);
  return value?.length === length ? value.reduce((number, byte) => number * 256 + byte, 0) : undefined;
}

function idText(value: Uint8Array | undefined): string | undefined {
  if (value === undefined || value.length === 0) return undefined;
  const bytes = Buffer.from(value);
  const text = bytes.toString('latin1');
  return /^[ -~]{1,64}$/.test(text) && !/^0x/.test(text) ? text : `0x${bytes.toString('hex')}`;
}
