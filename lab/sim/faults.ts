import { draw } from '../../appliance/kernel/seeded.ts';
import type { BmcFaultRates } from './bmc-server-faults.ts';
import type { Delayed } from './delays.ts';

/** Where a boot may go wrong by itself: what takes time, and the hops on the network. */
export type FaultStage = Delayed | 'post' | 'loader' | 'script' | 'claim';

/** What a false claim shows: another machine's UUID, a token that nobody gave, or no trust in the appliance's CA. */
export type FalseClaim = 'uuid' | 'token' | 'ca';

/** One thing that is wrong with one machine or on its way: it shows on its wire, at its BMC and on its console, as it does on real ones. */
export type Mishap =
  // Its BMC, from the day it is plugged in.
  | 'bmc-password'
  | 'bmc-mute'
  | 'bmc-hangs'
  | 'bmc-drops-flag'
  | 'power-dead'
  // All else from its second power-on on: it was inspected in good health.
  | 'boots-disk'
  | 'no-link'
  | 'foreign-dhcp'
  | 'arm64'
  | 'other-uuid'
  | 'twin'
  | 'declines'
  | 'strange-relay'
  | 'tftp-blocked'
  | 'tftp-cut'
  | 'slow'
  | 'panic'
  | 'clock-1970'
  | 'other-ca'
  | 'claimed-twice'
  | 'chunk-altered'
  | 'map-altered'
  | 'disk-write'
  | 'smaller-disk'
  | 'two-disks'
  | 'kexec-hang'
  | 'system-network'
  | 'sshd-off'
  | 'host-key'
  // It hangs for good when it comes to this stage.
  | `dies-in-${FaultStage}`;

/** What a check of a machine's health finds in one boot, while it works on otherwise. */
export const healthFaults = [
  'memory',
  'disk-unreadable',
  'disk-smart',
  'disk-missing',
  'nic-slow',
  'clock',
  'cpu-missing',
  'memory-missing',
] as const;
export type HealthFault = (typeof healthFaults)[number];

/** Shares between 0 and 1, drawn once for each boot of each machine, or for each packet; what is left out never happens. */
export interface FaultRates {
  /** Of installs: the disk fails while the image is written. In the field it is 0.023. */
  readonly diskWrite?: number;
  /** Of chunks of an image: one comes with another content than its digest says; drawn again each time it is fetched. */
  readonly alteredChunk?: number;
  /** Of boots that come to this stage: it never ends, until the power goes. */
  readonly hang?: Partial<Record<FaultStage, number>>;
  /** Of boots that come to this stage: the machine switches itself off, as with a failing power supply. */
  readonly powerOff?: Partial<Record<FaultStage, number>>;
  readonly falseClaim?: Partial<Record<FalseClaim, number>>;
  /** Of wipes: the disk still has data on it. */
  readonly wipe?: number;
  readonly health?: Partial<Record<HealthFault, number>>;
  /** Of datagrams that the machine sends or is sent. */
  readonly packets?: PacketFaultRates;
  /** Of packets and commands of its BMC. */
  readonly bmc?: BmcFaultRates;
}

export interface PacketFaultRates {
  readonly lost?: number;
  readonly doubled?: number;
  readonly late?: number;
  /** How late, at most, ms; 500 unless told. */
  readonly lateMs?: number;
}

/** What goes wrong in one boot. */
export interface BootFaults {
  readonly diskWrite: boolean;
  /** `time` counts how often this chunk has come, from 1. */
  altersChunk(sha256: string, time: number): boolean;
  readonly falseClaim: FalseClaim | undefined;
  readonly wipe: boolean;
  readonly health: ReadonlySet<HealthFault>;
  at(stage: FaultStage): 'hang' | 'power-off' | undefined;
}

/** `boot` counts the power-ons of this machine. */
export function bootFaults(seed: string, rates: FaultRates, machine: string, boot: number): BootFaults {
  const happens = (rate: number | undefined, ...names: string[]) =>
    rate !== undefined && draw(seed, 'fault', machine, boot, ...names) < rate;
  const claims = Object.entries(rates.falseClaim ?? {}) as [FalseClaim, number][];
  return {
    diskWrite: happens(rates.diskWrite, 'disk-write'),
    altersChunk: (sha256, time) => happens(rates.alteredChunk, 'altered-chunk', sha256, String(time)),
    falseClaim: claims.find(([kind, rate]) => happens(rate, 'claim', kind))?.[0],
    wipe: happens(rates.wipe, 'wipe'),
    health: new Set(healthFaults.filter((fault) => happens(rates.health?.[fault], 'health', fault))),
    at(stage) {
      if (happens(rates.hang?.[stage], 'hang', stage)) return 'hang';
      return happens(rates.powerOff?.[stage], 'power-off', stage) ? 'power-off' : undefined;
    },
  };
}
