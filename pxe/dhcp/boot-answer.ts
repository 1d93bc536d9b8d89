import { Secret } from '../../appliance/kernel/secret.ts';
import type { BootClient } from '../boot-client.ts';
import { hyphenated } from '../boot-client.ts';
import type { BootDecision } from '../boot-plan.ts';

/** What a client is told to fetch next. */
export type BootAnswer =
  | { readonly kind: 'none' }
  /** A TFTP name on this server. */
  | { readonly kind: 'loader'; readonly file: string }
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
 * An operating system is not asked about, and UEFI's HTTP boot gets no file: it falls back to the NIC's PXE ROM.
 */
export function bootAnswer(client: BootClient, decision: BootDecision | undefined, services: BootServices): BootAnswer {
  if (decision === undefined || decision.verb === 'ignore') return { kind: 'none' };
  if (client.kind === 'pxe-rom') {
    const file = client.architecture === undefined ? undefined : services.loaderFor(client.architecture);
    return file === undefined ? { kind: 'none' } : { kind: 'loader', file };
  }
  if (client.kind !== 'ipxe') return { kind: 'none' };
  const script = `${services.httpBase}/boot/${hyphenated(client.mac)}`;
  if (decision.verb === 'local-disk') return { kind: 'script', url: new Secret(script) };
  return { kind: 'script', url: new Secret(`${script}?token=${encodeURIComponent(decision.scriptToken.reveal())}`) };
}
