import type { SecureContext } from 'node:tls';

import type { Clock } from '../../appliance/kernel/clock.ts';
import type { Ids } from '../../appliance/kernel/ids.ts';
import { draw, triangular } from '../../appliance/kernel/seeded.ts';
import type { Triangle } from '../../appliance/kernel/seeded.ts';
import { stageDelays } from './delays.ts';
import type { DhcpPort } from './dhcp-port.ts';
import type { BootFaults, FaultStage, Mishap } from './faults.ts';
import type { ForeignDhcp } from './foreign-dhcp.ts';
import type { MachineSpec } from './machine-spec.ts';
import type { SshDoor } from './ssh-door.ts';
import type { Notebook } from './statistics.ts';
import type { Wire } from './wire.ts';

/** What all machines of a simulation share. */
export interface Surroundings {
  readonly seed: string;
  /** Real time, which is the appliance's: for everything that waits for an answer. */
  readonly clock: Clock;
  /** The machines' own time, on which POST and disks take as long as they take. */
  readonly pace: Clock;
  readonly ids: Ids;
  readonly notes: Notebook;
  readonly door: SshDoor;
  /** What trusts this CA alone; the same for the same CA. */
  readonly trust: (caPem: string) => SecureContext;
}

/** What is on the network and should not be, where some machine is to meet it. */
export interface Strays {
  readonly foreignDhcp: ForeignDhcp;
  /** By a relay that the appliance has not been told of. */
  readonly strangeRelay: DhcpPort;
}

export interface BootDeps extends Surroundings {
  readonly machine: MachineSpec;
  /** Counts the power-ons of this machine. */
  readonly number: number;
  readonly faults: BootFaults;
  readonly mishap: Mishap | undefined;
  readonly strays: Strays | undefined;
  readonly port: DhcpPort;
  readonly wire: Wire;
  readonly say: (line: string) => void;
  /** On the serial port alone. */
  readonly print: (line: string) => void;
  /** Resolves when somebody listens to the serial port, or after some seconds in which nobody did. */
  readonly listened: () => Promise<void>;
  /** Switches the machine off from inside. */
  readonly powerOff: () => void;
  /** Aborts when the power goes. */
  readonly signal: AbortSignal;
}

// What takes no time of its own, such as a claim, is not in it.
const spans: Partial<Record<FaultStage, Triangle>> = stageDelays;

/** One power-on of one machine, until its power goes. */
export class Boot {
  readonly deps: BootDeps;
  readonly #began: number;

  constructor(deps: BootDeps) {
    this.deps = deps;
    this.#began = deps.pace.now();
  }

  /** Takes the time that this stage takes this machine, unless it is where this boot goes wrong by itself. */
  async enter(stage: FaultStage): Promise<void> {
    const { machine, faults, pace, seed, number, notes, say, powerOff, signal } = this.deps;
    const fault = faults.at(stage);
    if (fault !== undefined) {
      notes.count(`fault: ${fault} at ${stage}`);
      say(`${fault} at ${stage}`);
      if (fault === 'power-off') powerOff();
      await this.idle();
    }
    const span = stage === 'post' ? machine.hardware.post : spans[stage];
    if (span === undefined) return;
    const delay = triangular(span, draw(seed, 'delay', machine.name, number, stage));
    await pace.sleepUntil(pace.now() + delay, signal);
  }

  /** Does nothing until the power goes; rejects then. */
  idle(): Promise<never> {
    const { signal } = this.deps;
    return new Promise((_resolve, reject) => {
      if (signal.aborted) reject(signal.reason as Error);
      else signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
  }

  /** Since power-on, on the machine's own clock, as forms carry it. */
  get uptime(): string {
    return ((this.deps.pace.now() - this.#began) / 1000).toFixed(2);
  }
}
