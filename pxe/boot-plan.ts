import type { Secret } from '../appliance/kernel/secret.ts';
import type { BootClient, Mac } from './boot-client.ts';

export type BootVerb = 'inspect' | 'wait' | 'install' | 'wipe';

/** What a machine that asks shall do. No order means local disk, never install. */
export type BootDecision =
  /** With a code when it is a known machine's MAC, and not that machine: an engineer should know; a stranger has a MAC of none. */
  | { readonly verb: 'ignore'; readonly why: string; readonly code?: 'boot.mismatch'; readonly stranger?: true }
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
  /** Which ramdisk it is, `RamdiskFiles.version`; undefined where it does not know. */
  readonly ramdisk?: string;
  /** Where the claim came from, for the timeline. */
  readonly from: string;
}

/** What a claim buys: the bearer for everything after, and the order. */
export interface ClaimGrant {
  readonly sessionId: string;
  readonly bearer: Secret;
  readonly order: OrderLines;
}

/** The order of a machine that waited for it. The bearer it waited with is worth nothing once this one has been used. */
export type NextOrder = Pick<ClaimGrant, 'bearer' | 'order'>;

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
  'check',
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
  /** Who made the firmware, what it calls its own version, and of which day it is, `2014-04-01`. */
  readonly firmwareVendor?: string;
  readonly firmwareVersion?: string;
  readonly firmwareDate?: string;
  /** Of its BMC on the management network, as the BMC tells it inside; absent where there is no way to ask, or it has none. */
  readonly bmcAddress?: string;
  readonly disks: readonly {
    name: string;
    bytes: number;
    type: 'nvme' | 'ssd' | 'hdd';
    serial: string;
    model: string;
    /** Percent of the life that the disk gives itself which are used; it may be over 100. Absent where it does not say. */
    wear?: number;
  }[];
  /** Memory modules that firmware tells of; absent where it tells of no slots. */
  readonly dimms?: readonly { slot: string; mib: number; serial: string }[];
  readonly nics: readonly {
    name: string;
    mac: Mac;
    up: boolean;
    speedMbps?: number;
    /** What the switch says of itself and of the port, by LLDP: `sw-7/eth3`. Absent where nothing was heard. */
    neighbour?: string;
  }[];
}

/** A machine's health as the ramdisk found it: what there is, and what of it works. */
export interface HealthCheck {
  readonly cores: number;
  readonly memoryMib: number;
  readonly memory: {
    /** How much was written and read back, and how many bytes were not what had been written. */
    readonly testedKib: number;
    readonly wrongBytes: number;
    /** Errors since the power came, of memory controllers that count them. */
    readonly corrected?: number;
    readonly uncorrected?: number;
  };
  /** Seconds by which its clock is ahead of ours; absent when it could not ask. */
  readonly clockOffset?: number;
  readonly disks: readonly {
    name: string;
    bytes: number;
    serial: string;
    /** The first place, in bytes, that could not be read. */
    unreadableAt?: number;
    /** What the disk says of itself; `unknown` when it says nothing. */
    smart: 'ok' | 'failing' | 'unknown';
  }[];
  readonly nics: Inspection['nics'];
}

/** What became of one disk that was to be wiped. */
export interface WipedDisk {
  readonly name: string;
  readonly bytes: number;
  readonly serial: string;
  readonly model: string;
  /** What erased it: `nvme-format`, `ata-erase`, `discard`, `zero`; two joined by `+` when the first left no zeros. */
  readonly method: string;
  readonly seconds: number;
  /** How many places were read back, how much in all, and the SHA-256 of that, hex. */
  readonly samples: number;
  readonly sampledBytes: number;
  readonly digest: string;
  /** Why it is not proven clean; absent when it is. */
  readonly failure?: string;
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
  check(bearer: Secret, check: HealthCheck): Promise<void>;
  wiped(bearer: Secret, disk: WipedDisk): Promise<void>;
  /** The files of a claimed install, credentials included. */
  files(bearer: Secret): Promise<readonly SystemFile[]>;
  /**
   * The next order of a waiting machine, or undefined when nothing came within the director's patience (about 25 s). Asked
   * again with the same bearer it is the same answer, until the bearer in it was used.
   */
  next(bearer: Secret, generation: number, signal: AbortSignal): Promise<NextOrder | undefined>;
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
