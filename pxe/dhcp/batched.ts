import { setImmediate as nextTurn } from 'node:timers/promises';

/** Does what many ask for at once. The answers are in the order of the items. */
export type WorkTogether<Item, Answer> = (items: readonly Item[]) => Promise<readonly Answer[]>;

/**
 * Work that costs about the same for one as for many, such as a query or a transaction. One batch is worked on at a time.
 * What comes meanwhile is in the next one, and so is all that a busy event loop brings in its next turns; who comes alone
 * waits for one turn. A batch that fails fails for everybody in it.
 */
export class Batched<Item, Answer> {
  readonly #work: WorkTogether<Item, Answer>;
  readonly #limits: BatchLimits;
  #waiting: Waiting<Item, Answer>[] = [];
  #working = false;
  #underWay = 0;

  constructor(work: WorkTogether<Item, Answer>, limits: BatchLimits) {
    this.#work = work;
    this.#limits = limits;
  }

  /** How many were asked for and are not done yet. */
  get unanswered(): number {
    return this.#waiting.length + this.#underWay;
  }

  do(item: Item): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      if (!this.#working) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#working = true;
    while (this.#waiting.length > 0) {
      await this.#limits.ready?.();
      await this.#gather();
      const batch = this.#waiting.splice(0, this.#limits.most);
      this.#underWay = batch.length;
      try {
        const answers = await this.#work(batch.map(({ item }) => item));
        batch.forEach(({ resolve }, index) => resolve(answers[index] as Answer));
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
      this.#underWay = 0;
    }
    this.#working = false;
  }

  /** A socket is read in portions, one each turn: as long as each brings more, more is on its way. */
  async #gather(): Promise<void> {
    const { most, turns } = this.#limits;
    let had = 0;
    for (let gathered = 0; gathered < turns; gathered++) {
      if (this.#waiting.length === had || this.#waiting.length >= most) return;
      had = this.#waiting.length;
      await nextTurn();
    }
  }
}

export interface BatchLimits {
  /** Items in one batch. */
  readonly most: number;
  /** How long a batch gathers: a loop that is busy with other things takes milliseconds for each turn. */
  readonly turns: number;
  /** No batch is begun before this resolves. */
  readonly ready?: () => Promise<void>;
}

interface Waiting<Item, Answer> {
  readonly item: Item;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}
