import type { MessageType } from './options.ts';
import { addresses, messageType, option } from './options.ts';
import type { DhcpPacket } from './packet.ts';
import { encodePacket } from './packet.ts';

/**
 * What real clients send. Classes, architectures, user classes and UUIDs are as measured against QEMU's firmware; the
 * parameter lists are those of the clients' sources.
 */
export const firmware = {
  /** iPXE as the option ROM of a NIC on a BIOS machine, and undionly.kpxe. */
  ipxeBios: {
    57: '05c0',
    93: '0000',
    94: '010201',
    60: text('PXEClient:Arch:00000:UNDI:002001'),
    77: text('iPXE'),
    55: '010306070c0f111a2b3c4243778081828384858687afcb',
    175: 'b105011af41000eb03010000170101220101130101110101270101190101100102210101150101180101',
    61: '01525400770001',
    97: '0078563412bc9af0de1122334455667788',
  },
  /** EDK2's own PXE client (OVMF). */
  edk2Pxe: {
    57: '05c0',
    55: '0102030405060c0d0f111216171c28292a2b3233363a3b3c4243618081828384858687',
    97: '0078563412bc9af0de1122334455667788',
    94: '010300',
    93: '0007',
    60: text('PXEClient:Arch:00007:UNDI:003000'),
  },
  /** snponly.efi, loaded by the former. */
  ipxeEfi: {
    57: '05c0',
    93: '0007',
    94: '01030a',
    60: text('PXEClient:Arch:00007:UNDI:003010'),
    77: text('iPXE'),
    55: '010306070c0f111a2b3c4243778081828384858687afcb',
    175: 'b105011af41000eb03010000170101220101130101140101110101270101190101100102210101150101180101',
    61: '01525400770002',
    97: '0078563412bc9af0de1122334455667788',
  },
  /** EDK2's HTTP boot client. */
  edk2Http: {
    57: '05c0',
    55: '01020304060c0f121c2829363a3b3c4243',
    97: '0078563412bc9af0de1122334455667788',
    94: '010300',
    93: '0010',
    60: text('HTTPClient:Arch:00016:UNDI:003000'),
  },
  /** busybox. */
  udhcpc: {
    57: '0240',
    61: '01525400770003',
    60: text('udhcp 1.35.0'),
    55: '0103060c0f1c2a',
  },
  /** ISC's client. */
  dhclient: { 12: text('stranger'), 55: '011c02030f06770c2c2f1a792a' },
  /** systemd-networkd names itself by IAID and DUID (RFC 4361). */
  networkd: {
    61: 'ffb5ef3a3c00020000ab11d1c9b0ecf8c2a4a1',
    55: '01030c0f061a21792a',
    57: '05c0',
    12: text('stranger'),
  },
} as const satisfies Record<string, Readonly<Record<number, string>>>;

export type Firmware = keyof typeof firmware;

export interface RequestFields {
  readonly mac?: string;
  readonly ciaddr?: string;
  readonly giaddr?: string;
  readonly flags?: number;
  /** Options 50 and 54. */
  readonly requested?: string;
  readonly serverId?: string;
  /** More options, hex. */
  readonly options?: Readonly<Record<number, string>>;
}

/** A client's message as it stands in the packet reader's words. */
export function requestPacket(type: MessageType, from: Firmware, fields: RequestFields = {}): DhcpPacket {
  const { mac = '52:54:00:77:00:01', ciaddr = '0.0.0.0', giaddr = '0.0.0.0', flags = 0 } = fields;
  const options = new Map<number, Uint8Array>([[option.messageType, messageType(type)]]);
  if (fields.serverId !== undefined) options.set(option.serverId, addresses(fields.serverId));
  if (fields.requested !== undefined) options.set(option.requestedAddress, addresses(fields.requested));
  for (const [code, value] of Object.entries({ ...firmware[from], ...fields.options })) {
    options.set(Number(code), Buffer.from(value, 'hex'));
  }
  const chaddr = Buffer.alloc(16);
  chaddr.write(mac.replaceAll(':', ''), 'hex');
  return {
    op: 1,
    hardwareType: 1,
    hardwareLength: 6,
    hops: 0,
    xid: 0x5eedf00d,
    secs: 4,
    flags,
    ciaddr,
    yiaddr: '0.0.0.0',
    siaddr: '0.0.0.0',
    giaddr,
    chaddr,
    sname: '',
    file: '',
    options,
  };
}

/** The datagram of it. */
export function requestBytes(type: MessageType, from: Firmware, fields?: RequestFields): Buffer {
  return encodePacket(requestPacket(type, from, fields));
}

/** Options as hex and text that people can compare: `{ '53': '02' }`. */
export function shown(packet: DhcpPacket): Record<string, string> {
  return Object.fromEntries([...packet.options].map(([code, value]) => [code, Buffer.from(value).toString('hex')]));
}

function text(value: string): string {
  return Buffer.from(value).toString('hex');
}
