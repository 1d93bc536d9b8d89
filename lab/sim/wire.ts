import type { Clock } from '../../appliance/kernel/clock.ts';
import { draw } from '../../appliance/kernel/seeded.ts';
import type { PacketFaultRates } from './faults.ts';

export interface WireDeps {
  readonly seed: string;
  readonly rates: PacketFaultRates;
  readonly clock: Clock;
  /** Told of each fault. */
  readonly onFault: (fault: 'lost' | 'doubled' | 'late') => void;
}

/** A machine's cable, as far as datagrams are concerned: it may lose them, double them, or be late. TCP mends itself. */
export class Wire {
  readonly #name: string;
  readonly #deps: WireDeps;
  readonly #faultless: boolean;
  #packets = 0;

  constructor(name: string, deps: WireDeps) {
    const { lost = 0, doubled = 0, late = 0 } = deps.rates;
    this.#name = name;
    this.#deps = deps;
    this.#faultless = lost + doubled + late === 0;
  }

  /** Calls `deliver` for one datagram, in either direction: at once, twice, later, or not at all. Never once `signal` aborted. */
  carry(deliver: () => void, signal: AbortSignal): void {
    if (this.#faultless) {
      deliver();
      return;
    }
    const { rates, clock, onFault, seed } = this.#deps;
    const { lost = 0, doubled = 0, late = 0, lateMs = 500 } = rates;
    const packet = this.#packets++;
    const fate = draw(seed, 'packet', this.#name, packet);
    if (fate < lost) {
      onFault('lost');
    } else if (fate < lost + doubled) {
      onFault('doubled');
      deliver();
      deliver();
    } else if (fate < lost + doubled + late) {
      onFault('late');
      const at = clock.now() + lateMs * draw(seed, 'late', this.#name, packet);
      clock.sleepUntil(at, signal).then(deliver, () => undefined);
    } else {
      deliver();
    }
  }
}
