import type { Secret } from '../appliance/kernel/secret.ts';
import type { BootClient, Mac } from './boot-client.ts';

export type BootVerb = 'inspect' | 'wait' | 'install' | 'wipe';

/** What a machine that asks shall do. No order means local disk, never install. */
export type BootDecision =
  /** With a code when it is a known machine's MAC, and not that machine: an engineer should know. */
  | { readonly verb: 'ignore'; readonly why: string; readonly code?: 'boot.mismatch' }
  | { readonly verb: 'local-disk'; readonly why: string }
  | {
      readonly verb: BootVerb;
      readonly sessionId: string;
      /** Buys the script and nothing else; the same for every retransmission of this boot. */
      readonly scriptToken: Secret;
    };

/** What iPXE needs to start the ramdisk. */
export interface RamdiskBoot {
  readonly sessionId: string;
  /** Buys one claim. */
  readonly claimToken: Secret;
  /** The machine's permanent reservation on the provisioning network, `10.77.0.11/24`, and its gateway if there is one. */
  readonly address: string;
  readonly gateway?: string;
}

export interface Claim {
  readonly protocol: number;
  readonly token: Secret;
  /** 32 hex characters, made once per boot by the ramdisk: the same nonce again gets the same answer. */
  readonly nonce: string;
  readonly mac: Mac;
  readonly uuid: string;
  /** Where the claim came from, for the timeline. */
  readonly from: string;
}

/** What a claim buys: the bearer for everything after, and the order. */
export interface ClaimGrant {
  readonly sessionId: string;
  readonly bearer: Secret;
  readonly order: OrderLines;
}

/** An order as the ramdisk reads it: one `key=value` a line. Values hold no control characters. */
export type OrderLines = Readonly<Record<string, string>>;

export const reportStages = [
  'network',
  'claim',
  'disk',
  'image',
  'grow',
  'inject',
  'kexec',
  'inspect',
  'wipe',
] as const;
export type ReportStage = (typeof reportStages)[number];

export interface Report {
  readonly generation: number;
  readonly stage: ReportStage;
  readonly status: 'started' | 'progress' | 'done' | 'failed';
  /** Seconds since the ramdisk's kernel started. */
  readonly uptime: number;
  /** Facts of the stage as sent (bytes, seconds, host_key, code, reason …): checked for form, not for truth. */
  readonly facts: Readonly<Record<string, string>>;
}

/** A machine's hardware as the ramdisk read it. */
export interface Inspection {
  readonly cores: number;
  readonly memoryMib: number;
  readonly uuid: string;
  readonly vendor: string;
  readonly model: string;
  readonly serial: string;
  readonly firmware: 'bios' | 'uefi';
  readonly disks: readonly {
    name: string;
    bytes: number;
    type: 'nvme' | 'ssd' | 'hdd';
    serial: string;
    model: string;
  }[];
  readonly nics: readonly { name: string; mac: Mac; up: boolean; speedMbps?: number }[];
}

/** One file of the new system, for the tar that the ramdisk unpacks at its root. */
export interface SystemFile {
  /** Relative, no leading slash, no `..`; one that ends in a slash is a directory. */
  readonly path: string;
  /** Octal permission bits. */
  readonly mode?: number;
  readonly content?: string | Buffer;
  /** A symbolic link instead of content. */
  readonly linkTo?: string;
}

/**
 * The boot plane asks at every hop and obeys. One implementation stands on the boot orders of the machines room; the
 * simulated racks may bring another.
 *
 * Errors: `boot.token-refused` (403), `boot.claim-conflict` (409), `boot.stale` (409), `boot.mismatch` (403),
 * `boot.protocol` (426). None of them carries a secret.
 */
export interface BootDirector {
  /** At DHCP and at UEFI's HTTP boot. Writes nothing. */
  decide(client: BootClient): Promise<BootDecision>;
  /** iPXE asks for its script. A token that is wrong or out of its window: `boot.token-refused`. */
  script(mac: Mac, token: Secret): Promise<RamdiskBoot>;
  claim(claim: Claim): Promise<ClaimGrant>;
  report(bearer: Secret, report: Report): Promise<void>;
  log(bearer: Secret, text: string): Promise<void>;
  inspection(bearer: Secret, inspection: Inspection): Promise<void>;
  /** The files of a claimed install, credentials included. */
  files(bearer: Secret): Promise<readonly SystemFile[]>;
  /** The next order of a waiting machine, or undefined when nothing came within the director's patience (about 25 s). */
  next(bearer: Secret, generation: number, signal: AbortSignal): Promise<OrderLines | undefined>;
}

export interface PhoneHome {
  readonly protocol: number;
  readonly server: string;
  readonly hostname: string;
  readonly machineId: string;
  readonly hostKey: string;
  readonly bootId: string;
  /** Seconds since the kernel started, now and when the agent was started. */
  readonly uptime: number;
  readonly started: number;
}

export interface Heartbeat {
  readonly protocol: number;
  readonly server: string;
  readonly uptime: number;
  readonly load1: number;
  readonly memoryTotalKib: number;
  readonly memoryAvailableKib: number;
  readonly diskTotalKib: number;
  readonly diskUsedKib: number;
}

/** What installed servers say. Errors: `agent.refused` (403), `boot.protocol` (426). */
export interface AgentDesk {
  phoneHome(credential: Secret, message: PhoneHome): Promise<void>;
  heartbeat(credential: Secret, message: Heartbeat): Promise<void>;
}
