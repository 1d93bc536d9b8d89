/**
 * Lets a few through in each turn of the event loop, in the order they came, and hardly any while there is something that
 * cannot wait. So a crowd leaves the turns short: a packet that firmware waits for is read after the next few of the crowd,
 * not after all of them.
 */
export class Turnstile {
  readonly #perTurn: number;
  readonly #patience: number;
  readonly #waiting: (() => void)[] = [];
  #turnsHeld = 0;
  #isHeld = false;

  /** `perTurn` pass in a turn, none while it is held; after `patience` turns one passes all the same. */
  constructor(perTurn: number, patience: number) {
    this.#perTurn = perTurn;
    this.#patience = patience;
  }

  /** Resolves in the next turn that has room. */
  pass(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#waiting.push(resolve) === 1) setImmediate(() => this.#turn());
    });
  }

  /** What cannot wait was there in this turn; more of it may come. */
  hold(): void {
    this.#isHeld = true;
  }

  #turn(): void {
    const most = this.#isHeld ? Number(this.#turnsHeld === this.#patience) : this.#perTurn;
    this.#turnsHeld = most === 0 ? this.#turnsHeld + 1 : 0;
    this.#isHeld = false;
    for (const resolve of this.#waiting.splice(0, most)) resolve();
    if (this.#waiting.length > 0) setImmediate(() => this.#turn());
  }
}
