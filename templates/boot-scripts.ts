import type { RamdiskScript } from './context.ts';
import type { Render } from './render.ts';
import { loadTemplate } from './render.ts';

/** What iPXE is told. */
export interface BootScripts {
  readonly ramdisk: Render<RamdiskScript>;
  readonly localDisk: Render<object>;
}

export function loadBootScripts(): BootScripts {
  return {
    ramdisk: loadTemplate('ipxe/ramdisk.ipxe', 'ipxe'),
    localDisk: loadTemplate('ipxe/local-disk.ipxe', 'ipxe'),
  };
}
