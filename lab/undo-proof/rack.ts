import type { Bmc } from '../../appliance/machines/bmc/bmc.ts';
import { RackMachine, probeRack } from '../../appliance/machines/rack.fixture.ts';
import type { Ask, Probed } from '../../appliance/machines/rack.fixture.ts';
import { parseMac } from '../../pxe/boot-client.ts';

/** What of a double's BMC a daemon uses; nothing of it takes time. */
export const bmcCalls = ['power', 'setPower', 'bootOnce', 'bootOnceAndReset', 'clearBootOverride', 'identity', 'newestEvent', 'faultsSince', 'watchdog', 'stopWatchdog', 'close'] as const; // prettier-ignore
export type RackBmc = Pick<RackMachine, (typeof bmcCalls)[number]> & Partial<Bmc>;

/** What there is to see of a machine, for whoever stands before it. */
export interface MachineLook {
  readonly on: boolean;
  readonly override: string | undefined;
  /** Whether its watchdog will do something to it. */
  readonly armed: boolean;
  /** Whether a tenant's system is on its disk. */
  readonly installed: boolean;
}

/** The one thing that outlives every daemon, wherever it stands. */
export interface Rack {
  /** Machine n, from 1. */
  bmc(number: number): RackBmc;
  probe(target: Probed): Promise<void>;
  /** When machines and calls are done with what they do; true when there was something to wait for. */
  rest(): Promise<boolean>;
  look(): Promise<readonly MachineLook[]>;
}

/** Doubles of machines in this process. */
export class LocalRack implements Rack {
  readonly machines: readonly RackMachine[];

  constructor(size: number, ask: Ask) {
    this.machines = Array.from({ length: size }, (_, index) => machineNumber(index + 1, ask));
  }

  bmc(number: number): RackMachine {
    const machine = this.machines[number - 1];
    if (machine === undefined) throw new Error(`no machine ${String(number)}`);
    return machine;
  }

  probe(target: Probed): Promise<void> {
    return probeRack(this.machines, target);
  }

  async rest(): Promise<boolean> {
    const works = this.machines.flatMap(({ work }) => work ?? []);
    await Promise.all(works);
    return works.length > 0;
  }

  look(): Promise<readonly MachineLook[]> {
    const looks = this.machines.map(({ state, override, timer, system }) => ({
      ...{ on: state === 'on', override, armed: timer.armed, installed: system !== undefined },
    }));
    return Promise.resolve(looks);
  }
}

function machineNumber(number: number, ask: Ask): RackMachine {
  const mac = parseMac(`52:54:00:77:00:${number.toString(16).padStart(2, '0')}`);
  if (mac === undefined) throw new Error('no MAC');
  return new RackMachine(mac, ask);
}
