import type { BootClient, BootStageClient, Mac } from '../boot-client.ts';
import { macOfBytes } from '../boot-client.ts';
import { option, readArchitecture, readMachineUuid, readText, readUserClasses } from './options.ts';
import type { DhcpPacket } from './packet.ts';

/** Who sent a request; undefined when its hardware address is no Ethernet address of one NIC. */
export function classify(packet: DhcpPacket): BootClient | undefined {
  const mac = macOf(packet);
  if (mac === undefined) return undefined;
  const architecture = readArchitecture(packet.options);
  const uuid = readMachineUuid(packet.options);
  return {
    mac,
    kind: kindOf(packet),
    ...(architecture === undefined ? {} : { architecture }),
    ...(uuid === undefined ? {} : { uuid }),
  };
}

// iPXE also calls itself PXEClient: it must be looked for first, or it would load itself for ever.
function kindOf({ options }: DhcpPacket): BootStageClient {
  if (readUserClasses(options).includes('iPXE')) return 'ipxe';
  const vendorClass = readText(options, option.vendorClass) ?? '';
  if (vendorClass.startsWith('PXEClient')) return 'pxe-rom';
  return vendorClass.startsWith('HTTPClient') ? 'http-boot' : 'os';
}

const ETHERNET = 1;
const MAC_LENGTH = 6;

function macOf({ hardwareType, hardwareLength, chaddr }: DhcpPacket): Mac | undefined {
  if (hardwareType !== ETHERNET || hardwareLength !== MAC_LENGTH) return undefined;
  return macOfBytes(chaddr.subarray(0, MAC_LENGTH));
}
