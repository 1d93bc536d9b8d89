import type { Clock } from '../kernel/clock.ts';
import type { FieldError } from '../kernel/errors.ts';
import type { ResourcePlan } from '../saga/resource-plan.ts';
import type { FlavorRow, ImageRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';

/** The four steps of every request, whatever its provider. */
export const provisionSteps = ['allocate', 'configure', 'activate', 'verify'] as const;
export type ProvisionStep = (typeof provisionSteps)[number];

/** A request with every name resolved, frozen when it is admitted: what later happens to a flavor or image is not its business. */
export interface ServerSpec {
  readonly requestId: string;
  readonly attemptId: string;
  readonly tenantId: string;
  /** A provider's type, and which of its clusters; null where it has none. */
  readonly provider: string;
  readonly cluster: string | null;
  readonly hostname: string;
  readonly regionId: string;
  readonly flavor: FlavorRow;
  readonly image: ImageRow;
  /** OpenSSH public keys, one at least. */
  readonly sshKeys: readonly string[];
  /** Cloud-init user data, passed on as it is. */
  readonly userData?: string;
  /** The machines on which this request has failed before, and which it is not tried on again. */
  readonly avoid?: readonly string[];
  /** The attempt beside which this one is tried, in a hedge. */
  readonly hedges?: string;
}

/** How to reach a server that was provisioned. */
export interface Connection {
  readonly username: string;
  readonly addresses: readonly string[];
  /** `ssh-ed25519 AAAA…`, as the installer made it; null where nobody could tell. */
  readonly hostKey: string | null;
  /** Where else it is reached, by what is there: its API, a console. */
  readonly endpoints?: Readonly<Record<string, string>>;
}

/** One endpoint of a provider, where it has several. */
export interface Cluster {
  readonly name: string;
  /** The name of the region it stands in; undefined: it serves all. */
  readonly region: string | undefined;
}

/** What a provider can do: whoever must know asks here, and nothing throws because it cannot. */
export interface Capabilities {
  /** A completed server has let the tenant's key in by SSH. Without: it is simulated, or a person's word is taken. */
  readonly provesSsh: boolean;
  /** `holdings` names everything that it holds for us. Without: what is left behind there is not found by the sweep. */
  readonly listsHoldings: boolean;
  /** A step may wait for a person, for as long as people take. */
  readonly waitsForPeople: boolean;
}

/** Turns a request into resources: for each step a plan in which what is independent is made side by side. */
export interface Provider {
  readonly type: string;
  readonly capabilities: Capabilities;
  /** Empty where there is nothing to choose from: such a provider's servers stand in no cluster. */
  readonly clusters: readonly Cluster[];
  /** What speaks against an order before anything is held for it, field by field; without this, nothing does. */
  complaints?(order: Pick<ServerSpec, 'flavor' | 'image'>): readonly FieldError[];
  /** The same for the same spec, for as long as a request lives: a resource that is not in it any more can't be given back. */
  plan(spec: ServerSpec): Readonly<Record<ProvisionStep, ResourcePlan<undefined>>>;
  /** What a customer pays for, from the references of the resources so far: of which kind, and which one. */
  held(refs: Readonly<Record<string, unknown>>): readonly { readonly resource: string; readonly id: string }[];
  /** From the references of all resources, once every step is done. */
  connection(refs: Readonly<Record<string, unknown>>): Connection;
  /**
   * What it holds now that was made by us, whoever for; what others made there is none of our business, and not told. Never
   * anything that was not there when it was called; empty without `listsHoldings`.
   */
  holdings(ctx: ProviderContext): Promise<readonly Held[]>;
  /** From any state to absent, once nobody owns it any more. Idempotent; what could not be removed is still in `holdings`. */
  remove(held: Held, ctx: ProviderContext): Promise<void>;
}

/** One thing that a provider holds: cluster, kind and id name it. */
export interface Held {
  readonly cluster: string | null;
  readonly kind: string;
  readonly id: string;
  /** The key under which a resource was created, or the attempt in whose name: whose it is. */
  readonly madeFor: { readonly key: string } | { readonly attemptId: string };
}

/** What a provider works with outside of a saga; a step's context is one too. */
export interface ProviderContext {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly read: Reader;
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
}
