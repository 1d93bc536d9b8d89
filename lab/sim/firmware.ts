import type { Ids } from '../../appliance/kernel/ids.ts';
import type { MessageType } from '../../pxe/dhcp/options.ts';
import { addresses, messageType, option, readAddress, readMessageType, readText } from '../../pxe/dhcp/options.ts';
import type { DhcpPacket } from '../../pxe/dhcp/packet.ts';
import { BOOT_REQUEST, BROADCAST_FLAG, NO_ADDRESS } from '../../pxe/dhcp/packet.ts';
import type { DhcpPort } from './dhcp-port.ts';
import type { ForeignDhcp } from './foreign-dhcp.ts';
import { OFFERED } from './foreign-dhcp.ts';
import type { MachineSpec } from './machine-spec.ts';
import type { Wire } from './wire.ts';

/** What asks: the ROM of the NIC, and then the iPXE that it loaded. */
export type Stage = 'rom' | 'ipxe';

export interface Lease {
  readonly address: string;
  /** Who has the loader. */
  readonly nextServer: string;
  /** Option 67: a TFTP name for the ROM, a URL for iPXE. */
  readonly bootFile?: string;
}

export interface Network {
  readonly port: DhcpPort;
  readonly wire: Pick<Wire, 'carry'>;
  readonly ids: Ids;
}

/** DISCOVER, OFFER, REQUEST, ACK. Rejects when nobody answers or the request is refused. */
export async function leaseAddress(
  stage: Stage,
  machine: MachineSpec,
  { port, wire, ids }: Network,
  signal: AbortSignal,
): Promise<Lease> {
  const xid = ids.random(4).readUInt32BE();
  const message = (type: MessageType, more: [number, Uint8Array][] = []) =>
    clientMessage(type, stage, machine, xid, more);
  const offer = await port.ask(message('discover'), ['offer'], wire, signal);
  const chosen: [number, Uint8Array][] = [
    [option.requestedAddress, addresses(offer.yiaddr)],
    [option.serverId, addresses(readAddress(offer.options, option.serverId) ?? NO_ADDRESS)],
  ];
  const answer = await port.ask(message('request', chosen), ['ack', 'nak'], wire, signal);
  if (readMessageType(answer.options) === 'nak') throw new Error(`DHCP refused ${offer.yiaddr}`);
  const bootFile = readText(answer.options, option.bootFile);
  const { yiaddr: address, siaddr: nextServer } = answer;
  return { address, nextServer, ...(bootFile === undefined ? {} : { bootFile }) };
}

/** Found by ARP that somebody has the address already: says so, and takes it not (RFC 2131 §4.4.1). */
export function declineAddress(machine: MachineSpec, { address, nextServer }: Lease, network: Network): void {
  const xid = network.ids.random(4).readUInt32BE();
  const decline = clientMessage('decline', 'rom', machine, xid, [
    [option.requestedAddress, addresses(address)],
    [option.serverId, addresses(nextServer)],
  ]);
  // Nobody answers it.
  network.port.ask(decline, [], network.wire, AbortSignal.timeout(50)).catch(() => undefined);
}

/** As `leaseAddress` where another server's offer is here first: the appliance hears whose it takes. */
export async function leaseFromForeign(
  machine: MachineSpec,
  { port, wire, ids }: Network,
  foreign: ForeignDhcp,
  signal: AbortSignal,
): Promise<Lease> {
  const xid = ids.random(4).readUInt32BE();
  const discover = clientMessage('discover', 'rom', machine, xid, []);
  const offered = port.ask(discover, ['offer'], wire, signal).catch(() => undefined);
  foreign.answer(discover, 'offer');
  await offered;
  const request = clientMessage('request', 'rom', machine, xid, [
    [option.requestedAddress, addresses(OFFERED)],
    [option.serverId, addresses(foreign.address)],
  ]);
  port.ask(request, [], wire, AbortSignal.any([signal, AbortSignal.timeout(50)])).catch(() => undefined);
  foreign.answer(request, 'ack');
  return { address: OFFERED, nextServer: foreign.address };
}

// As SeaBIOS with an UNDI ROM, EDK2 and iPXE were seen to send them.
function clientMessage(
  type: MessageType,
  stage: Stage,
  { mac, uuid, hardware: { firmware }, architecture = firmware === 'uefi' ? 7 : 0 }: MachineSpec,
  xid: number,
  more: readonly [number, Uint8Array][],
): DhcpPacket {
  const chaddr = Buffer.from(mac.replaceAll(':', ''), 'hex');
  const options = new Map<number, Uint8Array>([
    [option.messageType, messageType(type)],
    ...more,
    [option.maxMessageSize, Uint8Array.of(0x05, 0xc0)],
    [option.architecture, Uint8Array.of(0, architecture)],
    [
      option.vendorClass,
      Buffer.from(`PXEClient:Arch:${String(architecture).padStart(5, '0')}:UNDI:00${firmware === 'uefi' ? 3 : 2}001`),
    ],
    ...(stage === 'ipxe' ? ([[option.userClass, Buffer.from('iPXE')]] as const) : []),
    [option.parameterList, Uint8Array.of(1, 3, 6, 12, 15, 43, 60, 66, 67)],
    [option.machineId, Buffer.concat([Uint8Array.of(0), smbiosOrder(uuid)])],
  ]);
  return {
    op: BOOT_REQUEST,
    hardwareType: 1,
    hardwareLength: chaddr.length,
    hops: 0,
    xid,
    secs: 0,
    flags: BROADCAST_FLAG,
    ciaddr: NO_ADDRESS,
    yiaddr: NO_ADDRESS,
    siaddr: NO_ADDRESS,
    giaddr: NO_ADDRESS,
    chaddr: Buffer.concat([chaddr, Buffer.alloc(16 - chaddr.length)]),
    sname: '',
    file: '',
    options,
  };
}

// The first three fields little-endian.
function smbiosOrder(uuid: string): Buffer {
  const bytes = Buffer.from(uuid.replaceAll('-', ''), 'hex');
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  return bytes;
}
