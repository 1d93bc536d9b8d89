import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { ErrorCode } from '../../appliance/kernel/errors.ts';
import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import type { Effect, EffectTraits } from './effects.ts';

/** What goes wrong with the next effects whose names match. */
export interface ArmedFault {
  readonly match: RegExp;
  readonly kind: 'passing' | 'permanent' | 'hang' | 'late';
  readonly strikes: 'before' | 'after';
  readonly delay: Millis;
  times: number;
}

/** Faults that were armed, each for the next effects that it fits, in the order of their arming. */
export class ArmedFaults {
  #armed: ArmedFault[] = [];
  readonly #tell: (what: string) => void;

  constructor(tell: (what: string) => void) {
    this.#tell = tell;
  }

  arm(fault: ArmedFault): void {
    this.#armed.push(fault);
  }

  /** Whoever was in the way is gone. */
  repair(): void {
    this.#armed = [];
  }

  /** For one process, on its own clock: what is late of a dead one never comes. */
  on(clock: Clock): Effect {
    return async (name, work, traits) => {
      const fault = this.#armed.find(({ match, times }) => times > 0 && match.test(name));
      if (fault === undefined) return work();
      fault.times -= 1;
      this.#tell(`${name}: ${fault.kind}, ${fault.strikes}`);
      if (fault.kind === 'late') {
        await clock.sleepUntil(clock.now() + fault.delay, signalOf(traits));
        return work();
      }
      if (fault.strikes === 'after') await work();
      if (fault.kind === 'hang') await clock.sleepUntil(Infinity, signalOf(traits));
      const code: ErrorCode = fault.kind === 'passing' ? 'bmc.unreachable' : 'internal';
      throw new RackstartError(code, `made to fail: ${fault.kind}`);
    };
  }
}

function signalOf({ signal }: Pick<EffectTraits<unknown>, 'signal'>): AbortSignal {
  return signal ?? new AbortController().signal;
}
