import { Secret } from '../../appliance/kernel/secret.ts';
import type { BootClient } from '../boot-client.ts';
import { hyphenated } from '../boot-client.ts';
import type { BootDecision } from '../boot-plan.ts';

/** What a client is told to fetch next. */
export type BootAnswer =
  | { readonly kind: 'none' }
  /** A TFTP name on this server. */
  | { readonly kind: 'loader'; readonly file: string }
  /** The loader's URL, for UEFI's HTTP boot. */
  | { readonly kind: 'loader-url'; readonly url: string }
  /** The script's URL; secret, since it may carry the script token. */
  | { readonly kind: 'script'; readonly url: Secret };

export interface BootServices {
  /** Ours on the client's network: server identifier, TFTP server. */
  readonly serverAddress: string;
  /** `http://10.77.0.1:8080`, no slash at the end. */
  readonly httpBase: string;
  /** The TFTP name of the loader for a client architecture (RFC 4578 §2.1). */
  readonly loaderFor: (architecture: number) => string | undefined;
}

/**
 * The decision in this client's words. `local-disk` is an answer too: a ROM that gets an address and no file waits a
 * minute before it tries the next boot device, so it loads iPXE, whose script without a token leaves to the disk.
 * UEFI's HTTP boot gets a URL only when there is an order: without one it goes on to the next boot device after 4 s. An
 * operating system is not asked about.
 */
export function bootAnswer(client: BootClient, decision: BootDecision | undefined, services: BootServices): BootAnswer {
  if (decision === undefined || decision.verb === 'ignore') return { kind: 'none' };
  if (client.kind === 'pxe-rom') {
    const file = client.architecture === undefined ? undefined : services.loaderFor(client.architecture);
    return file === undefined ? { kind: 'none' } : { kind: 'loader', file };
  }
  if (client.kind === 'http-boot') return httpAnswer(client, decision, services);
  if (client.kind !== 'ipxe') return { kind: 'none' };
  const script = `${services.httpBase}/boot/${hyphenated(client.mac)}`;
  if (decision.verb === 'local-disk') return { kind: 'script', url: new Secret(script) };
  return { kind: 'script', url: new Secret(`${script}?token=${encodeURIComponent(decision.scriptToken.reveal())}`) };
}

/** What people may see of it: a script's URL carries a token, and is named, never shown. */
export function publicName(boot: BootAnswer): string | undefined {
  switch (boot.kind) {
    case 'loader':
      return boot.file;
    case 'loader-url':
      return boot.url;
    case 'script':
      return 'script';
    case 'none':
      return undefined;
  }
}

function httpAnswer(
  { architecture = NaN }: BootClient,
  { verb }: BootDecision,
  { loaderFor, httpBase }: BootServices,
): BootAnswer {
  const pxeArchitecture = HTTP_ARCHITECTURES.get(architecture);
  const file = pxeArchitecture === undefined ? undefined : loaderFor(pxeArchitecture);
  if (file === undefined || verb === 'local-disk') return { kind: 'none' };
  return { kind: 'loader-url', url: `${httpBase}/loader/${file}` };
}

/**
 * A machine's architecture when it boots by HTTP → when it boots by PXE: they are two numbers in IANA's registry, and one
 * loader. There is none for x86 (15), whose firmware is 32-bit UEFI.
 */
const HTTP_ARCHITECTURES: ReadonlyMap<number, number> = new Map([
  [16, 7],
  [19, 11],
]);
