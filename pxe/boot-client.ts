/** Lower case, colons: `52:54:00:77:00:01`. Made by `parseMac`, so that a value of this type is well-formed. */
export type Mac = string & { readonly __brand: 'Mac' };

/** Accepts colons or hyphens, any case; undefined for anything else, multicast and all-zero addresses included. */
export function parseMac(text: string): Mac | undefined {
  const match = /^[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}$/i.exec(text);
  if (match === null) return undefined;
  const mac = text.toLowerCase().replaceAll('-', ':');
  const multicast = (Number.parseInt(mac.slice(0, 2), 16) & 1) === 1;
  return multicast || mac === '00:00:00:00:00:00' ? undefined : (mac as Mac);
}

/** The same of six bytes. */
export function macOfBytes(bytes: Uint8Array): Mac | undefined {
  if (bytes.length !== 6 || ((bytes[0] ?? 1) & 1) === 1 || bytes.every((byte) => byte === 0)) return undefined;
  let mac = '';
  for (const byte of bytes) mac += `${mac === '' ? '' : ':'}${byte < 16 ? '0' : ''}${byte.toString(16)}`;
  return mac as Mac;
}

/** As iPXE writes it with `${mac:hexhyp}`, and as paths carry it. */
export function hyphenated(mac: Mac): string {
  return mac.replaceAll(':', '-');
}

/** What asks: a NIC's PXE ROM, iPXE (from a ROM or chainloaded), UEFI's HTTP boot, or an operating system. */
export type BootStageClient = 'pxe-rom' | 'ipxe' | 'http-boot' | 'os';

export interface BootClient {
  readonly mac: Mac;
  readonly kind: BootStageClient;
  /** Client system architecture, RFC 4578 §2.1 (option 93): 0 BIOS, 7 and 9 UEFI x64, 11 UEFI arm64. */
  readonly architecture?: number;
  /** SMBIOS UUID in RFC 4122 text form (option 97), already in the byte order that the running system shows. */
  readonly uuid?: string;
  /** The switch port that a trusted relay says it hangs on: `sw-7/eth3`, see `switchPort`. */
  readonly port?: string;
}
