import { RackstartError } from '../../appliance/kernel/errors.ts';

/** How an effect goes wrong: before it happens or after; not at all answered; answered, and not done. */
export type Mishap =
  | { readonly kind: 'fails'; readonly when: 'before' | 'after'; readonly error: () => Error }
  | { readonly kind: 'hangs'; readonly heeds: 'signal' | 'nothing' }
  | { readonly kind: 'lies' }
  | { readonly kind: 'happens twice' };

/** One effect, by its number in an undisturbed run, or that and all after it that have its name, for as long as `while` holds. */
export interface Disturbance {
  readonly effect: number;
  readonly mishap: Mishap;
  readonly again?: 'until the saga turns' | 'until it is repaired';
}

export interface PassedEffect {
  readonly name: string;
  /** On the way back. */
  readonly backward: boolean;
  /** Whether it could say that it was done, and not be. */
  readonly canLie: boolean;
  /** Whoever asks goes on without it. */
  readonly isSpared: boolean;
}

/** Every effect on the world goes through one of these; `name` is for people. */
export type Effect = <T>(name: string, work: () => Promise<T>, how: EffectTraits<T>) => Promise<T>;

export interface EffectTraits<T> {
  readonly signal: AbortSignal | undefined;
  /** What is done, and said, when it says that it was done and does nothing; absent where there is no way to do that. */
  readonly lie?: (() => Promise<T>) | undefined;
  /** Whoever asks goes on without it. */
  readonly isSpared?: true;
}

/** Stands around every effect outside: counts them all, and lets the chosen ones go wrong. */
export class Effects {
  readonly passed: PassedEffect[] = [];
  readonly #disturbances: readonly Disturbance[];
  readonly #everyTwice: boolean;
  readonly #names = new Map<Disturbance, string>();
  turned = false;
  repaired = false;
  /** How often something went wrong. */
  mishaps = 0;

  constructor(disturbances: readonly Disturbance[], everyTwice: boolean) {
    this.#disturbances = disturbances;
    this.#everyTwice = everyTwice;
  }

  readonly run: Effect = async (name, work, { signal, lie, isSpared = false }) => {
    this.passed.push({ name, backward: this.turned, canLie: lie !== undefined, isSpared });
    const mishap = this.#mishapOf(name);
    if (mishap === undefined) {
      if (this.#everyTwice) await work();
      return work();
    }
    this.mishaps += 1;
    switch (mishap.kind) {
      case 'fails':
        if (mishap.when === 'after') await work();
        throw mishap.error();
      case 'hangs':
        return silence(mishap.heeds === 'signal' ? signal : undefined);
      case 'lies':
        return (lie ?? work)();
      case 'happens twice':
        await work();
        return work();
    }
  };

  #mishapOf(name: string): Mishap | undefined {
    for (const disturbance of this.#disturbances) {
      const { effect, mishap, again } = disturbance;
      if (this.passed.length === effect) this.#names.set(disturbance, name);
      const holds = again === 'until the saga turns' ? !this.turned : again !== undefined && !this.repaired;
      if (this.passed.length === effect || (this.#names.get(disturbance) === name && holds)) return mishap;
    }
    return undefined;
  }
}

export const forGood = () => new RackstartError('internal', 'made to fail for good');
export const passing = () => new RackstartError('bmc.unreachable', 'made to fail in a way that passes');

function silence(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_resolve, reject) => {
    const stop = () => reject(signal?.reason as Error);
    if (signal?.aborted === true) stop();
    signal?.addEventListener('abort', stop, { once: true });
  });
}
