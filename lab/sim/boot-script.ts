/** What iPXE hands to the ramdisk: the `rackstart.` parameters of the kernel line, without that prefix, and where its files are. */
export interface RamdiskBoot {
  readonly kernelUrl: string;
  readonly initrdUrl: string;
  /** https, no path. */
  readonly url: string;
  readonly claimToken: string;
}

/** Reads the commands of an iPXE script that load our ramdisk; undefined when it loads none. */
export function readBootScript(script: string): RamdiskBoot | undefined {
  const [, kernelUrl, kernel] = /^kernel (\S+) (.*)$/m.exec(script) ?? [];
  const initrdUrl = /^initrd (?:--name \S+ )?(\S+)/m.exec(script)?.[1];
  if (kernelUrl === undefined || kernel === undefined || initrdUrl === undefined) return undefined;
  const parameter = (name: string) => new RegExp(`(?:^| )rackstart\\.${name}=(\\S+)`).exec(kernel)?.[1];
  const [url, claimToken] = [parameter('url'), parameter('token')];
  if (url === undefined || claimToken === undefined)
    throw new Error('the boot script starts a ramdisk without url or token');
  return { kernelUrl, initrdUrl, url, claimToken };
}

/** What the appliance puts into every ramdisk that it serves. */
export interface Pinned {
  /** PEM. */
  readonly ca: string;
  readonly version: string;
}

/**
 * What is pinned in an initrd, from the last cpio archive that holds it (kernel Documentation/driver-api/early-userspace/
 * buffer-format.rst: a header of 110 bytes with its fields in hexadecimal, name and content each padded to 4 bytes).
 */
export function pinnedIn(initrd: Buffer): Pinned {
  return { ca: fileIn(initrd, 'ca.pem'), version: fileIn(initrd, 'version').trim() };
}

function fileIn(initrd: Buffer, file: string): string {
  const name = Buffer.from(`etc/rackstart/${file}\0`);
  const nameAt = initrd.lastIndexOf(name);
  const header = initrd.toString('latin1', Math.max(0, nameAt - HEADER), Math.max(0, nameAt));
  if (!header.startsWith('070701')) throw new Error(`the initrd holds no ${file}`);
  const size = Number.parseInt(header.slice(SIZE_AT, SIZE_AT + 8), 16);
  const from = Math.ceil((nameAt + name.length) / 4) * 4;
  return initrd.toString('utf8', from, from + size);
}

const HEADER = 110;
const SIZE_AT = 54;
