/** Numbers that are the same in every run: the key says which (the mulberry32 generator, seeded by FNV-1a of the key). */
export class Dice {
  #state: number;

  constructor(...key: readonly (string | number)[]) {
    let hash = 0x811c9dc5;
    const text = key.join(' ');
    for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
    this.#state = hash;
  }

  /** A whole number from 0 up to, and without, `end`. */
  below(end: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let value = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return Math.floor((((value ^ (value >>> 14)) >>> 0) / 2 ** 32) * end);
  }

  /** True so many times in a hundred. */
  percent(share: number): boolean {
    return this.below(100) < share;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; at++) bytes[at] = this.below(256);
    return bytes;
  }

  /** Mostly short, now and then up to `most`: what is long costs time and finds little. */
  length(most: number): number {
    return this.below(this.percent(90) ? Math.min(most, 64) + 1 : most + 1);
  }
}
