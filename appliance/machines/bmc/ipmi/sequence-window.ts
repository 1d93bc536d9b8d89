/**
 * Which packets of a session have come already (IPMI 2.0 §6.12.13): anything ahead is new, what is up to 32 behind may
 * come late but once, and what is older is a replay.
 */
export class SequenceWindow {
  #highest = 0;
  /** Bit n: number `highest - n` has come. */
  #seen = 0;

  /** True once for each number; `sequence` is an unsigned 32-bit number, 0 is never valid in a session. */
  accept(sequence: number): boolean {
    if (sequence === 0) return false;
    const ahead = (sequence - this.#highest) | 0; // wraps round as the numbers do
    if (ahead > 0) {
      this.#seen = ahead >= SIZE ? 1 : (this.#seen << ahead) | 1;
      this.#highest = sequence;
      return true;
    }
    if (ahead <= -SIZE) return false;
    const bit = 1 << -ahead;
    if ((this.#seen & bit) !== 0) return false;
    this.#seen |= bit;
    return true;
  }
}

const SIZE = 32;
