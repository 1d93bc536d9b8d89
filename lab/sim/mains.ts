/**
 * The power of the whole room. While it is off, BMCs answer from their standby supply and take commands, and machines that are told to
 * start wait; when it comes back, all of those start in the same moment.
 */
export class Mains {
  #off: { back: Promise<undefined>; restore: () => void } | undefined;

  cut(): void {
    if (this.#off !== undefined) return;
    const { promise: back, resolve } = Promise.withResolvers<undefined>();
    this.#off = { back, restore: () => resolve(undefined) };
  }

  restore(): void {
    this.#off?.restore();
    this.#off = undefined;
  }

  /** Resolves when there is power; rejects when `signal` aborts first. */
  async wait(signal: AbortSignal): Promise<void> {
    await this.#off?.back;
    signal.throwIfAborted();
  }
}
