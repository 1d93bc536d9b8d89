import type { BootClient } from '../boot-client.ts';
import type { BootAnswer } from './boot-answer.ts';
import type { Layout, OptionEntry } from './layout.ts';
import { layOut } from './layout.ts';
import { ipv4ToNumber, netmask, numberToIpv4 } from './ipv4.ts';
import type { Binding, NetworkParameters } from './lease-book.ts';
import type { MessageType } from './options.ts';
import { addresses, messageType, option, readMaxMessageLength, readParameterList, uint32 } from './options.ts';
import type { DhcpPacket } from './packet.ts';
import { BOOT_REPLY, BROADCAST_FLAG, NO_ADDRESS } from './packet.ts';

export interface Reply {
  readonly packet: DhcpPacket;
  readonly address: string;
  readonly port: number;
}

export interface Lease {
  readonly client: BootClient;
  readonly binding: Binding;
  readonly boot: BootAnswer;
  readonly serverAddress: string;
}

/** DHCPOFFER, or the DHCPACK of a REQUEST: RFC 2131 §4.3.1, table 3. */
export function leaseReply(type: 'offer' | 'ack', request: DhcpPacket, lease: Lease): Reply {
  const { binding, boot, client, serverAddress } = lease;
  const first: OptionEntry[] = [
    ...identity(type, serverAddress),
    [option.leaseTime, uint32(binding.leaseTime)],
    [option.subnetMask, uint32(netmask(binding.prefixLength))],
    ...romOptions(request, client, boot),
    ...httpOptions(boot),
  ];
  const available = {
    ...network(binding, binding.address),
    ...timers(binding.leaseTime),
    ...(boot.kind === 'loader' ? { [option.tftpServer]: Buffer.from(serverAddress) } : {}),
  };
  const layout = layOut({
    first,
    asked: asked(request, available),
    last: [...echoed(request), ...bootOptions(client, boot), ...relayOptions(request)],
    room: readMaxMessageLength(request.options),
    fileIsFree: boot.kind !== 'loader',
  });

  const packet = {
    ...answer(request, layout),
    ciaddr: type === 'ack' ? request.ciaddr : NO_ADDRESS,
    yiaddr: binding.address,
    ...nextServer(boot, serverAddress),
  };
  return { packet, ...destination(request, request.ciaddr === binding.address ? binding.address : LIMITED_BROADCAST) };
}

/**
 * What a proxy says (PXE 2.1 §2.2.3): what to boot, and no address. iPXE too must be told the class here: it knows a
 * proxy's offer by that alone.
 */
export function proxyReply(
  type: 'offer' | 'ack',
  request: DhcpPacket,
  boot: Exclude<BootAnswer, { kind: 'none' }>,
  serverAddress: string,
): Reply {
  const options = new Map<number, Uint8Array>([
    ...identity(type, serverAddress),
    ...(boot.kind === 'loader-url' ? httpOptions(boot) : pxeOptions(request)),
    ...echoed(request),
    ...bootFile(boot),
    ...relayOptions(request),
  ]);
  const packet = { ...answer(request, { options }), ...nextServer(boot, serverAddress) };
  return { packet, ...destination(request, LIMITED_BROADCAST) };
}

/** The DHCPACK of an INFORM: parameters, no address and no lease (RFC 2131 §4.3.5). */
export function informReply(request: DhcpPacket, parameters: NetworkParameters, serverAddress: string): Reply {
  const layout = layOut({
    first: [...identity('ack', serverAddress), [option.subnetMask, uint32(netmask(parameters.prefixLength))]],
    asked: asked(request, network(parameters, request.ciaddr)),
    last: [...echoed(request), ...relayOptions(request)],
    room: readMaxMessageLength(request.options),
    fileIsFree: true,
  });
  return { packet: { ...answer(request, layout), ciaddr: request.ciaddr }, ...destination(request, request.ciaddr) };
}

/** DHCPNAK: never to an address, which is what is in doubt (RFC 2131 §4.1). `why` is for people with a packet trace. */
export function nakReply(request: DhcpPacket, why: string, serverAddress: string): Reply {
  const options = new Map<number, Uint8Array>([
    ...identity('nak', serverAddress),
    [option.message, Buffer.from(why, 'latin1')],
    ...echoed(request),
    ...relayOptions(request),
  ]);
  const packet = answer(request, { options });
  // The relay too must not unicast it (§4.3.2).
  const flags = request.giaddr === NO_ADDRESS ? packet.flags : packet.flags | BROADCAST_FLAG;
  return { packet: { ...packet, flags }, ...destination(request, LIMITED_BROADCAST) };
}

/** The same reply for people's eyes: as long, with the script token in the boot file's URL overwritten. */
export function withoutToken(packet: DhcpPacket): DhcpPacket {
  const url = packet.options.get(option.bootFile);
  const token = url === undefined ? -1 : Buffer.from(url).indexOf(TOKEN);
  if (url === undefined || token === -1) return packet;
  const shown = Buffer.from(url).fill('x', token + TOKEN.length);
  return { ...packet, options: new Map(packet.options).set(option.bootFile, shown) };
}

const TOKEN = '?token=';
const SERVER_PORT = 67;
const CLIENT_PORT = 68;
// OVMF's PXE client hears no subnet-directed broadcast (PXE-E18); everybody hears this one.
const LIMITED_BROADCAST = '255.255.255.255';

/**
 * RFC 2131 §4.1: to the relay; else to the address the client already has; else by broadcast. A client without the
 * broadcast flag should get a frame to its MAC with an address it does not answer ARP for yet: that takes a raw
 * socket. All of them take a broadcast.
 */
function destination(request: DhcpPacket, address: string): Pick<Reply, 'address' | 'port'> {
  return request.giaddr === NO_ADDRESS
    ? { address, port: CLIENT_PORT }
    : { address: request.giaddr, port: SERVER_PORT };
}

function answer(request: DhcpPacket, layout: Layout): DhcpPacket {
  return {
    op: BOOT_REPLY,
    hardwareType: request.hardwareType,
    hardwareLength: request.hardwareLength,
    hops: 0,
    xid: request.xid,
    secs: 0,
    flags: request.flags,
    ciaddr: NO_ADDRESS,
    yiaddr: NO_ADDRESS,
    siaddr: NO_ADDRESS,
    giaddr: request.giaddr,
    chaddr: request.chaddr,
    sname: '',
    file: '',
    ...layout,
  };
}

function identity(type: MessageType, serverAddress: string): OptionEntry[] {
  return [
    [option.messageType, messageType(type)],
    [option.serverId, addresses(serverAddress)],
  ];
}

// The client identifier goes back as it came (RFC 6842).
function echoed({ options }: DhcpPacket): OptionEntry[] {
  return copied(options, option.clientId);
}

// Last of all, so that a relay can cut it off (RFC 3046 §2.1).
function relayOptions({ options }: DhcpPacket): OptionEntry[] {
  return copied(options, option.relayAgent);
}

function copied(options: DhcpPacket['options'], code: number): OptionEntry[] {
  const value = options.get(code);
  return value === undefined ? [] : [[code, value]];
}

// T1 and T2, RFC 2131 §4.4.5.
function timers(leaseTime: number): Record<number, Uint8Array> {
  return {
    [option.renewalTime]: uint32(Math.floor(leaseTime / 2)),
    [option.rebindingTime]: uint32(Math.floor((leaseTime * 7) / 8)),
  };
}

function network({ prefixLength, gateway, dns }: NetworkParameters, address: string): Record<number, Uint8Array> {
  const broadcast = (ipv4ToNumber(address) | ~netmask(prefixLength)) >>> 0;
  return {
    ...(gateway === undefined ? {} : { [option.router]: addresses(gateway) }),
    ...(dns.length === 0 ? {} : { [option.dns]: addresses(...dns) }),
    [option.broadcastAddress]: addresses(numberToIpv4(broadcast)),
  };
}

// In the order asked (RFC 2132 §9.8); a client that asks for nothing by name gets all there is.
function asked({ options }: DhcpPacket, available: Record<number, Uint8Array>): OptionEntry[] {
  const wanted = readParameterList(options) ?? Object.keys(available).map(Number);
  return wanted.flatMap((code) => (available[code] === undefined ? [] : [[code, available[code]] as const]));
}

// Old ROMs read the field and never option 67; EDK2 prefers the option.
function nextServer(boot: BootAnswer, serverAddress: string): Pick<DhcpPacket, 'siaddr' | 'file'> {
  return {
    siaddr: boot.kind === 'loader' || boot.kind === 'script' ? serverAddress : NO_ADDRESS,
    file: boot.kind === 'loader' ? boot.file : '',
  };
}

// iPXE also says PXEClient, and gets none of it from the server that gave it an address: it would go on to ask a proxy.
function romOptions(request: DhcpPacket, client: BootClient, boot: BootAnswer): OptionEntry[] {
  return client.kind === 'pxe-rom' && boot.kind !== 'none' ? pxeOptions(request) : [];
}

/**
 * What makes a PXE ROM take this for a PXE offer: its class and machine id back (RFC 4578 §2.3, PXE 2.1 §2.4.1), and
 * PXE_DISCOVERY_CONTROL (suboption 6) with bit 3: use the boot file, look for no boot server, show no menu.
 */
function pxeOptions({ options }: DhcpPacket): OptionEntry[] {
  return [
    [option.vendorClass, Buffer.from('PXEClient')],
    [option.vendorSpecific, Uint8Array.of(6, 1, 8, PXE_END)],
    ...copied(options, option.machineId),
  ];
}

const PXE_END = 255;

// UEFI 2.10 §24.7.3.1: by this class alone HTTP boot knows an offer that has a URL for it.
function httpOptions({ kind }: BootAnswer): OptionEntry[] {
  return kind === 'loader-url' ? [[option.vendorClass, Buffer.from('HTTPClient')]] : [];
}

/**
 * The boot file comes last: EDK2 writes a zero after its value, into the code of whatever option follows. iPXE is told
 * no-pxedhcp (175.176), or it waits for offers of proxy DHCP servers before it goes on.
 */
function bootOptions({ kind }: BootClient, boot: BootAnswer): OptionEntry[] {
  const skipProxyDhcp: OptionEntry[] = kind === 'ipxe' ? [[option.ipxe, Uint8Array.of(176, 1, 1)]] : [];
  return [...skipProxyDhcp, ...bootFile(boot)];
}

function bootFile(boot: BootAnswer): OptionEntry[] {
  if (boot.kind === 'none') return [];
  const file = boot.kind === 'script' ? boot.url.reveal() : boot.kind === 'loader' ? boot.file : boot.url;
  return [[option.bootFile, Buffer.from(file, 'latin1')]];
}
