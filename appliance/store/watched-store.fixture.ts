import type { Store, Tx } from './store.ts';

/**
 * A store that knows whether anything is under way to the disk. That takes the time that it takes, however often the event loop
 * comes round meanwhile: tests that count turns wait for it, so as not to depend on how long it took.
 */
export class WatchedStore implements Store {
  readonly #store: Store;
  #underWay = 0;
  /** How many transactions have ended. */
  ended = 0;

  constructor(store: Store) {
    this.#store = store;
  }

  get dialect() {
    return this.#store.dialect;
  }

  get read() {
    return this.#store.read;
  }

  get writing(): boolean {
    return this.#underWay > 0;
  }

  async transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    this.#underWay += 1;
    try {
      return await this.#store.transaction(work);
    } finally {
      this.#underWay -= 1;
      this.ended += 1;
    }
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}
