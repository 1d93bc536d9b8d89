import { SECOND, type Millis } from '../../appliance/kernel/clock.ts';

/**
 * How long to wait for an acknowledgement before everything since the last one is sent again: by what its client's
 * answers took so far (RFC 1123 §4.2.3.2 demands it; the arithmetic is TCP's, RFC 6298 §2), twice as long after each silence.
 * A client that negotiated a timeout (RFC 2349) gets that one instead.
 */
export class RetryTimer {
  readonly #negotiated: Millis | undefined;
  #smoothed: Millis | undefined;
  #variation: Millis = 0;
  #doublings = 0;
  #silentFor: Millis = 0;

  constructor(negotiated?: Millis) {
    this.#negotiated = negotiated;
  }

  get wait(): Millis {
    const first = this.#negotiated ?? this.#estimate();
    return Math.min(first * 2 ** this.#doublings, Math.max(first, LONGEST_WAIT));
  }

  /** Whether the last answer is overdue. */
  get silent(): boolean {
    return this.#silentFor > 0;
  }

  /** Whether the client has been silent for so long that it is gone. */
  get exhausted(): boolean {
    return this.#silentFor >= Math.max(PATIENCE, LEAST_TRIES * (this.#negotiated ?? 0));
  }

  /** What was sent last is acknowledged, after `elapsed`. */
  answered(elapsed: Millis): void {
    // Which of several copies was acknowledged cannot be told: it teaches nothing, and the longer wait stays until an answer
    // does (Karn's algorithm, RFC 6298 §3 and §5.7), or a server that is late for all its clients sends everything twice.
    if (!this.silent) {
      this.#learn(elapsed);
      this.#doublings = 0;
    }
    this.#silentFor = 0;
  }

  /** It was waited in vain. */
  missed(): void {
    this.#silentFor += this.wait;
    this.#doublings += 1;
  }

  #estimate(): Millis {
    if (this.#smoothed === undefined) return FIRST_WAIT;
    return Math.max(SHORTEST_WAIT, this.#smoothed + 4 * this.#variation);
  }

  #learn(elapsed: Millis): void {
    if (this.#smoothed === undefined) {
      this.#smoothed = elapsed;
      this.#variation = elapsed / 2;
      return;
    }
    this.#variation += (Math.abs(this.#smoothed - elapsed) - this.#variation) / 4;
    this.#smoothed += (elapsed - this.#smoothed) / 8;
  }
}

const FIRST_WAIT = SECOND;
// A PXE ROM that looks after its NIC at the BIOS's timer tick only does so every 55 ms.
const SHORTEST_WAIT: Millis = 100;
const LONGEST_WAIT = 16 * SECOND;
/** A client that never answered is given up after 1, 2, 4, 8, 16 and 16 s. */
const PATIENCE = 45 * SECOND;
const LEAST_TRIES = 6;
