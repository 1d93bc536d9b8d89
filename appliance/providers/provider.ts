import type { ResourcePlan } from '../saga/resource-plan.ts';
import type { FlavorRow, ImageRow } from '../store/schema.ts';

/** The four steps of every request, whatever its provider. */
export const provisionSteps = ['allocate', 'configure', 'activate', 'verify'] as const;
export type ProvisionStep = (typeof provisionSteps)[number];

/** A request with every name resolved, frozen when it is admitted: what later happens to a flavor or image is not its business. */
export interface ServerSpec {
  readonly requestId: string;
  readonly attemptId: string;
  readonly tenantId: string;
  readonly hostname: string;
  readonly regionId: string;
  readonly flavor: FlavorRow;
  readonly image: ImageRow;
  /** OpenSSH public keys, one at least. */
  readonly sshKeys: readonly string[];
  /** Cloud-init user data, passed on as it is. */
  readonly userData?: string;
}

/** How to reach a server that was provisioned. */
export interface Connection {
  readonly username: string;
  readonly addresses: readonly string[];
  /** `ssh-ed25519 AAAA…`, as the installer made it. */
  readonly hostKey: string;
}

/** Turns a request into resources: for each step a plan in which what is independent is made side by side. */
export interface Provider {
  readonly type: string;
  plan(spec: ServerSpec): Readonly<Record<ProvisionStep, ResourcePlan<undefined>>>;
  /** What a customer pays for, from the references of the resources so far: of which kind, and which one. */
  held(refs: Readonly<Record<string, unknown>>): readonly { readonly resource: string; readonly id: string }[];
  /** From the references of all resources, once every step is done. */
  connection(refs: Readonly<Record<string, unknown>>): Connection;
}
