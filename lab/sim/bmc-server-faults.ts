import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import type { CommandFaults } from './bmc-server-commands.ts';

/** Whether it goes wrong now: for good or bad, or asked each time with a number that counts the times from 0. */
export type Fault = boolean | ((index: number) => boolean);

/** What goes wrong on the way and in the BMC; may be changed while it runs. */
export interface BmcFaults {
  /** Asked before each packet that the BMC sends: true loses it, after the command was carried out. */
  dropAnswer?: (index: number) => boolean;
  /** How late each packet is that the BMC sends. */
  delayMs?: Millis | ((index: number) => Millis);
  /** Each packet comes twice. */
  duplicate?: Fault;
  /** Hears nothing and does nothing, as after a crash, for each packet that comes; what it had promised is kept. */
  hung?: Fault;
  /** Commands in a session end with this completion code, such as 0xc0 (busy), and nothing is done; 0 for none. */
  completionCode?: number | ((index: number) => number);
  /** Tells the opposite of the machine's power. */
  liesAboutPower?: Fault;
  /** Accepts boot flags and keeps those that it had. */
  dropsBootFlags?: Fault;
  /** Carries each command out twice. */
  runsTwice?: Fault;
}

/** Shares between 0 and 1: of packets, or of commands. What is left out never happens. */
export interface BmcFaultRates {
  /** Of packets that the BMC sends. */
  readonly lost?: number;
  readonly doubled?: number;
  readonly late?: number;
  /** How late, at most; 3 s unless told: longer than our client waits before it asks again. */
  readonly lateMs?: Millis;
  /** Of packets that it hears: the BMC hangs from then on for `hangMs`, 30 s unless told. */
  readonly hang?: number;
  readonly hangMs?: Millis;
  /** Of commands. */
  readonly busy?: number;
  readonly powerLie?: number;
  readonly bootFlagsDropped?: number;
  readonly twice?: number;
}

/** Faults at these rates. `draw` gives a number in [0, 1) for the names of a moment, the same each time: so a run repeats. */
export function seededBmcFaults(
  draw: (...names: readonly (string | number)[]) => number,
  rates: BmcFaultRates,
  clock: Clock,
): BmcFaults {
  const at = (name: string, rate: number | undefined) => (index: number) =>
    rate !== undefined && draw('bmc', name, index) < rate;
  const { lateMs = 3_000, hangMs = 30_000 } = rates;
  const [isLate, hangs, isBusy] = [at('late', rates.late), at('hang', rates.hang), at('busy', rates.busy)];
  let hungUntil: Millis = 0;
  return {
    dropAnswer: at('lost', rates.lost),
    delayMs: (index) => (isLate(index) ? Math.ceil(draw('bmc', 'how-late', index) * lateMs) : 0),
    duplicate: at('doubled', rates.doubled),
    hung: (index) => {
      if (clock.now() >= hungUntil && hangs(index)) hungUntil = clock.now() + hangMs;
      return clock.now() < hungUntil;
    },
    completionCode: (index) => (isBusy(index) ? 0xc0 : 0),
    liesAboutPower: at('power-lie', rates.powerLie),
    dropsBootFlags: at('boot-flags', rates.bootFlagsDropped),
    runsTwice: at('twice', rates.twice),
  };
}

/** Counts what happens to a BMC, and says what goes wrong each time. */
export class Mishaps {
  readonly #faults: BmcFaults;
  #heard = 0;
  #sent = 0;
  #commands = 0;

  constructor(faults: BmcFaults) {
    this.#faults = faults;
  }

  /** Of the next packet that comes. */
  isDeaf(): boolean {
    return holds(this.#faults.hung, this.#heard++);
  }

  /** Of the next packet that is sent: when each of its copies is out; none when it is lost. */
  delays(): Millis[] {
    const index = this.#sent++;
    const { dropAnswer, delayMs = 0, duplicate } = this.#faults;
    if (dropAnswer?.(index) === true) return [];
    const delay = typeof delayMs === 'number' ? delayMs : delayMs(index);
    return holds(duplicate, index) ? [delay, delay] : [delay];
  }

  /** Of the next command. */
  command(): CommandFaults & { readonly completionCode: number; readonly times: 1 | 2 } {
    const index = this.#commands++;
    const { completionCode = 0, liesAboutPower, dropsBootFlags, runsTwice } = this.#faults;
    return {
      completionCode: typeof completionCode === 'number' ? completionCode : completionCode(index),
      liesAboutPower: holds(liesAboutPower, index),
      dropsBootFlags: holds(dropsBootFlags, index),
      times: holds(runsTwice, index) ? 2 : 1,
    };
  }
}

function holds(fault: Fault | undefined, index: number): boolean {
  return typeof fault === 'function' ? fault(index) : fault === true;
}
