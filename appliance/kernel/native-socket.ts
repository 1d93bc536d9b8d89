import { createSocket, type Socket } from 'node:dgram';
import { isIPv4, isIPv6 } from 'node:net';

import ipaddr from 'ipaddr.js';
import koffi, { type LibraryHandle } from 'koffi';

import { RackstartError } from './errors.ts';

/**
 * What Node's sockets lack, through libc: SO_BINDTODEVICE before bind(), raw ICMPv6, and datagrams to unix sockets. Linux
 * only; beside it nothing but packet-socket.ts calls C.
 *
 * A socket bound to the server's own address hears no broadcast, and one bound to 0.0.0.0 hears every NIC and answers
 * on the wrong segment: on a host with more than one NIC only the device says what a boot service means.
 */

export interface DeviceSocketOptions {
  /** The only interface the socket hears and sends on (SO_BINDTODEVICE, socket(7)); none: every interface that has the address. */
  readonly device?: string | undefined;
  /** 0 picks a free port. */
  readonly port: number;
  /** Bytes that may wait to be read; at most `net.core.rmem_max` without CAP_NET_ADMIN. The kernel's default unless told. */
  readonly receiveBuffer?: number | undefined;
  /** The local IPv4 address; 0.0.0.0 (which is what hears broadcasts) unless told. */
  readonly address?: string | undefined;
}

/**
 * A bound UDP socket for IPv4 with broadcast allowed. It is the caller's to close.
 *
 * Throws `config.invalid` when there is no such device, address or free port, `host.missing` when the process lacks the
 * right to bind (CAP_NET_RAW for a device, CAP_NET_BIND_SERVICE for a port below 1024).
 */
export function openDeviceSocket({ device, port, receiveBuffer, address = '0.0.0.0' }: DeviceSocketOptions): Socket {
  if (!isIPv4(address)) throw new RackstartError('config.invalid', `${address} is not an IPv4 address`);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new RackstartError('config.invalid', `${String(port)} is not a UDP port`);
  }
  const where = `${address}:${String(port)}${device === undefined ? '' : ` on device ${device}`}`;
  const fd = checked(libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), `open a UDP socket for ${where}`);
  return closedOnFailure(fd, () => {
    if (device !== undefined) bindToDevice(fd, device);
    setOption(fd, SOL_SOCKET, SO_BROADCAST, 1, `allow broadcasts on ${where}`);
    if (receiveBuffer !== undefined) setReceiveBuffer(fd, receiveBuffer, where);
    // Shares a well-known port with a server of another interface that bound no device. Not for port 0: Linux would
    // then hand out a port that another of our sockets already has.
    if (port !== 0) setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1, `share ${where}`);
    const name = ipv4Name(address, port);
    checked(libc.bind(fd, name, name.length), `bind to ${where}`);
    return adoptSocket(fd);
  });
}

/**
 * A `dgram` socket over a bound UDP descriptor that somebody else opened, such as systemd (sd_listen_fds(3)). The socket owns the
 * descriptor from then on, and sends to addresses in numbers alone. Throws `config.invalid` when the descriptor is not a UDP
 * socket.
 */
export function adoptSocket(fd: number): Socket {
  // dgram takes 0 and -1 for "no descriptor" and would bind any free port instead.
  if (!Number.isInteger(fd) || fd < 1) throw new RackstartError('config.invalid', `${String(fd)} is no descriptor`);
  const socket = createSocket({ type: 'udp4', lookup: asItIs });
  try {
    // With a descriptor, bind() has worked or thrown when it returns: the socket listens.
    return socket.bind({ fd });
  } catch (cause) {
    socket.close();
    throw new RackstartError('config.invalid', `descriptor ${String(fd)} is not a bound UDP socket`, { cause });
  }
}

/** Keeps a descriptor that was handed to us from the programs that we start. Throws `config.invalid` when it is not open. */
export function closeOnExec(fd: number): void {
  checked(libc.fcntl(fd, F_SETFD, 'int', FD_CLOEXEC), `keep descriptor ${String(fd)} to ourselves`);
}

/**
 * Sends one datagram to a unix socket: a path, or an abstract name after `@` (unix(7)). Never waits: throws
 * `config.invalid` when nobody listens there or its queue is full.
 */
export function sendUnixDatagram(address: string, text: string): void {
  const name = unixName(address);
  const aim = `send a datagram to ${address}`;
  const fd = checked(libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), aim);
  try {
    const data = Buffer.from(text);
    checked(libc.sendto(fd, data, data.length, MSG_NOSIGNAL, name, name.length), aim);
  } finally {
    libc.close(fd);
  }
}

export interface RawIcmp6 {
  /** Sends an ICMPv6 message (from its type byte on; the kernel writes the checksum) with hop limit 255. */
  send(message: Uint8Array, destination: string): void;
  /** The next message received, with its sender's address without zone; undefined when none waits. Never blocks. */
  receive(): { message: Buffer; source: string } | undefined;
  close(): void;
}

/**
 * A raw ICMPv6 socket (RFC 3542 §3) on one interface that hears the all-routers group, and of what arrives only messages of `type`.
 *
 * Node cannot watch a raw descriptor (libuv knows UDP, TCP, pipes and terminals): the owner polls `receive`.
 * Throws `config.invalid` when there is no such device, `host.missing` without CAP_NET_RAW or without IPv6.
 */
export function openRawIcmp6(device: string, type: number): RawIcmp6 {
  const flags = SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const fd = checked(libc.socket(AF_INET6, flags, IPPROTO_ICMPV6), `open a raw ICMPv6 socket for device ${device}`);
  const interfaceIndex = closedOnFailure(fd, () => {
    bindToDevice(fd, device);
    const index = libc.if_nametoindex(device);
    if (index === 0) throw failure(`find device ${device}`);
    for (const option of [IPV6_MULTICAST_HOPS, IPV6_UNICAST_HOPS]) {
      setOption(fd, IPPROTO_IPV6, option, 255, `set the hop limit on device ${device}`);
    }
    setOption(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0, `stop multicast echoes on device ${device}`);
    // struct icmp6_filter: a set bit blocks its type (RFC 3542 §3.2).
    const filter = Buffer.alloc(32, 0xff);
    const word = (type >> 5) * 4;
    filter.writeUInt32LE((filter.readUInt32LE(word) & ~(1 << (type & 31))) >>> 0, word);
    setOption(fd, IPPROTO_ICMPV6, ICMPV6_FILTER, filter, `filter ICMPv6 on device ${device}`);
    const membership = Buffer.concat([ipv6Bytes(ALL_ROUTERS), int32(index)]);
    setOption(fd, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, membership, `join ${ALL_ROUTERS} on device ${device}`);
    return index;
  });
  const buffer = Buffer.alloc(MAX_MESSAGE);

  return {
    send(message, destination) {
      if (!isIPv6(destination)) throw new RackstartError('internal', `${destination} is not an IPv6 address`);
      const name = ipv6Name(destination, interfaceIndex);
      const sent = libc.sendto(fd, message, message.length, 0, name, name.length);
      checked(sent, `send ICMPv6 to ${destination} on device ${device}`);
    },

    receive() {
      const name = Buffer.alloc(SOCKADDR_IN6_LENGTH);
      const length = libc.recvfrom(fd, buffer, buffer.length, 0, name, int32(name.length));
      // A raw socket reports an earlier packet's ICMP error here; the next call gives what really waits.
      if (length < 0) return undefined;
      return { message: Buffer.from(buffer.subarray(0, length)), source: ipv6Text(name.subarray(8, 24)) };
    },

    close: () => void libc.close(fd),
  };
}

// <bits/socket.h>, <linux/in6.h>: the values of Linux on x86-64 and arm64.
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_BROADCAST = 6;
const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;
const SO_BINDTODEVICE = 25;
const IPPROTO_IPV6 = 41;
const IPPROTO_ICMPV6 = 58;
const IPV6_UNICAST_HOPS = 16;
const IPV6_MULTICAST_HOPS = 18;
const IPV6_MULTICAST_LOOP = 19;
const IPV6_ADD_MEMBERSHIP = 20;
const ICMPV6_FILTER = 1;
const SOCKADDR_IN6_LENGTH = 28;
// IFNAMSIZ, less the terminating zero.
const MAX_DEVICE_NAME = 15;
// sun_path, less the terminating zero.
const MAX_UNIX_NAME = 107;

const ALL_ROUTERS = 'ff02::2';
const MAX_MESSAGE = 1500;

// The process itself (dlopen(NULL)): libc is in it already, under whatever name. Once for all: a declared function is
// never freed.
export const libc = declare(koffi.load(null));

function declare(library: LibraryHandle) {
  const name = 'const uint8_t *name, uint32_t name_length';
  return {
    socket: library.func('int socket(int domain, int type, int protocol)') as (...args: number[]) => number,
    setsockopt: library.func(
      'int setsockopt(int fd, int level, int option, const uint8_t *value, uint32_t length)',
    ) as (fd: number, level: number, option: number, value: Uint8Array, length: number) => number,
    bind: library.func(`int bind(int fd, ${name})`) as (fd: number, name: Uint8Array, length: number) => number,
    if_nametoindex: library.func('unsigned int if_nametoindex(const char *name)') as (name: string) => number,
    sendto: library.func(`int64 sendto(int fd, const uint8_t *data, size_t length, int flags, ${name})`) as (
      fd: number,
      data: Uint8Array,
      length: number,
      flags: number,
      name: Uint8Array,
      nameLength: number,
    ) => number,
    recvfrom: library.func(
      'int64 recvfrom(int fd, uint8_t *buffer, size_t size, int flags, uint8_t *name, uint8_t *name_length)',
    ) as (
      fd: number,
      buffer: Uint8Array,
      size: number,
      flags: number,
      name: Uint8Array,
      nameLength: Uint8Array,
    ) => number,
    fcntl: library.func('int fcntl(int fd, int command, ...)') as (
      fd: number,
      command: number,
      type: 'int',
      value: number,
    ) => number,
    close: library.func('int close(int fd)') as (fd: number) => number,
  };
}

function bindToDevice(fd: number, device: string): void {
  // The kernel cuts longer names, and so could find another device; an empty name means every device.
  if (device === '' || Buffer.byteLength(device) > MAX_DEVICE_NAME || device.includes('\0')) {
    throw new RackstartError('config.invalid', `"${device}" is not the name of a network device`);
  }
  setOption(fd, SOL_SOCKET, SO_BINDTODEVICE, Buffer.from(`${device}\0`), `bind to device ${device}`);
}

function setReceiveBuffer(fd: number, size: number, where: string): void {
  const bytes = int32(size);
  if (libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes, bytes.length) >= 0) return;
  setOption(fd, SOL_SOCKET, SO_RCVBUF, size, `let more wait on ${where}`);
}

export function setOption(fd: number, level: number, option: number, value: number | Buffer, aim: string): void {
  const bytes = typeof value === 'number' ? int32(value) : value;
  checked(libc.setsockopt(fd, level, option, bytes, bytes.length), aim);
}

export function closedOnFailure<T>(fd: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

export function checked(result: number, aim: string): number {
  if (result < 0) throw failure(aim);
  return result;
}

function failure(aim: string): RackstartError {
  const errno = koffi.errno();
  const name = Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${String(errno)}`;
  const lacking = name === 'EPERM' || name === 'EACCES' || name === 'EAFNOSUPPORT';
  const why = lacking && name !== 'EAFNOSUPPORT' ? `${name}: CAP_NET_RAW or CAP_NET_BIND_SERVICE is missing` : name;
  return new RackstartError(lacking ? 'host.missing' : 'config.invalid', `could not ${aim}: ${why}`, {
    details: { errno: name },
  });
}

// dgram's own look-up answers one turn of the event loop later, for numbers too, and asks the DNS for anything else.
function asItIs(
  address: string,
  _options: unknown,
  found: (error: null, address: string, family: number) => void,
): void {
  found(null, address, 4);
}

function ipv4Name(address: string, port: number): Buffer {
  const name = Buffer.alloc(16);
  name.writeUInt16LE(AF_INET, 0);
  name.writeUInt16BE(port, 2);
  name.set(address.split('.').map(Number), 4);
  return name;
}

function unixName(address: string): Buffer {
  const path = Buffer.from(address);
  const abstract = address.startsWith('@');
  if (!(abstract || address.startsWith('/')) || path.length > MAX_UNIX_NAME || path.includes(0)) {
    throw new RackstartError('config.invalid', `"${address}" is not the address of a unix socket`);
  }
  // An abstract name is as long as it is told to be: a zero at its end would be part of it.
  if (abstract) path[0] = 0;
  return Buffer.concat([Buffer.of(AF_UNIX, 0), path, Buffer.alloc(abstract ? 0 : 1)]);
}

function ipv6Name(address: string, interfaceIndex: number): Buffer {
  const name = Buffer.alloc(SOCKADDR_IN6_LENGTH);
  name.writeUInt16LE(AF_INET6, 0);
  name.set(ipv6Bytes(address), 8);
  name.writeUInt32LE(interfaceIndex, 24);
  return name;
}

function ipv6Bytes(address: string): Uint8Array {
  return Uint8Array.from(ipaddr.IPv6.parse(address).toByteArray());
}

function ipv6Text(bytes: Uint8Array): string {
  return ipaddr.fromByteArray([...bytes]).toString();
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}
