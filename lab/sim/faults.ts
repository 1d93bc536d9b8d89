import { draw } from '../../appliance/kernel/seeded.ts';
import type { BmcFaultRates } from './bmc-server-faults.ts';
import type { Delayed } from './delays.ts';

/** Where a boot may go wrong by itself: what takes time, and the hops on the network. */
export type FaultStage = Delayed | 'post' | 'loader' | 'script' | 'claim';

/** What a false claim shows: another machine's UUID, a token that nobody gave, or no trust in the appliance's CA. */
export type FalseClaim = 'uuid' | 'token' | 'ca';

/** Shares between 0 and 1, drawn once for each boot of each machine, or for each packet; what is left out never happens. */
export interface FaultRates {
  /** Of installs: the disk fails while the image is written. In the field it is 0.023. */
  readonly diskWrite?: number;
  /** Of boots that come to this stage: it never ends, until the power goes. */
  readonly hang?: Partial<Record<FaultStage, number>>;
  /** Of boots that come to this stage: the machine switches itself off, as with a failing power supply. */
  readonly powerOff?: Partial<Record<FaultStage, number>>;
  readonly falseClaim?: Partial<Record<FalseClaim, number>>;
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
  readonly falseClaim: FalseClaim | undefined;
  at(stage: FaultStage): 'hang' | 'power-off' | undefined;
}

/** `boot` counts the power-ons of this machine. */
export function bootFaults(seed: string, rates: FaultRates, machine: string, boot: number): BootFaults {
  const happens = (rate: number | undefined, ...names: string[]) =>
    rate !== undefined && draw(seed, 'fault', machine, boot, ...names) < rate;
  const claims = Object.entries(rates.falseClaim ?? {}) as [FalseClaim, number][];
  return {
    diskWrite: happens(rates.diskWrite, 'disk-write'),
    falseClaim: claims.find(([kind, rate]) => happens(rate, 'claim', kind))?.[0],
    at(stage) {
      if (happens(rates.hang?.[stage], 'hang', stage)) return 'hang';
      return happens(rates.powerOff?.[stage], 'power-off', stage) ? 'power-off' : undefined;
    },
  };
}
