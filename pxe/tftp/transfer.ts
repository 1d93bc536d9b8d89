import { SECOND, type Millis } from '../../appliance/kernel/clock.ts';
import type { NegotiatedOptions } from './options.ts';
import { encodeData, encodeOptions } from './packet.ts';
import { RetryTimer } from './retry-timer.ts';

/**
 * One file on its way to one client: what to send, and when to send it again. No socket, no timer; each call answers with the
 * packets to send now.
 */
export class Transfer {
  readonly blocks: number;
  readonly #data: Buffer;
  readonly #options: NegotiatedOptions;
  readonly #timer: RetryTimer;
  /** The last block the client has, counted from 1 without rolling over; 0: none. */
  #acknowledged = 0;
  /** The last block sent; -1: none, nor the options. */
  #sent = -1;
  #sentAt: Millis = 0;
  #retryAt: Millis = 0;

  constructor(data: Buffer, options: NegotiatedOptions) {
    this.#data = data;
    this.#options = options;
    this.#timer = new RetryTimer(options.timeout === undefined ? undefined : options.timeout * SECOND);
    // The last block is the first short one: a file of whole blocks ends with an empty one (RFC 1350 §2).
    this.blocks = Math.floor(data.length / options.blockSize) + 1;
  }

  get state(): 'running' | 'done' | 'lost' {
    if (this.#acknowledged === this.blocks) return 'done';
    return this.#timer.exhausted ? 'lost' : 'running';
  }

  /** Whether the client has answered at all. */
  get answered(): boolean {
    return this.#acknowledged > 0 || (this.#offersOptions && this.#sent > 0);
  }

  /** Whether it was waited in vain for a first answer. */
  get unheard(): boolean {
    return !this.answered && this.#timer.silent;
  }

  get bytesAcknowledged(): number {
    return Math.min(this.#acknowledged * this.#options.blockSize, this.#data.length);
  }

  /** When to call `expire` unless an acknowledgement comes first. */
  get retryAt(): Millis {
    return this.#retryAt;
  }

  begin(now: Millis): Buffer[] {
    return this.#send(this.#offersOptions, now);
  }

  /** `block` as on the wire: 0 to 65535. */
  acknowledge(block: number, now: Millis): Buffer[] {
    if (this.state !== 'running') return [];
    if (this.#sent === 0) return block === 0 ? this.#progress(0, now) : [];
    // Counted from the last acknowledged block, which undoes the rolling over.
    const acknowledged = this.#acknowledged + ((block - this.#acknowledged) & 0xffff);
    // An acknowledgement seen before, or of what was never sent, sends nothing. Answering a duplicate sends every later block
    // twice (the Sorcerer's Apprentice, RFC 1123 §4.2.3.1), and in a window it cannot be told from a network's
    // duplicate: a window that lost its first block waits for the timer.
    if (acknowledged === this.#acknowledged || acknowledged > this.#sent) return [];
    // One inside the window says that the next block was lost: from there again (RFC 7440 §4).
    return this.#progress(acknowledged, now);
  }

  /** Time is up: the same again. */
  expire(now: Millis): Buffer[] {
    if (this.state !== 'running' || now < this.#retryAt) return [];
    this.#timer.missed();
    return this.#timer.exhausted ? [] : this.#send(this.#sent === 0, now);
  }

  get #offersOptions(): boolean {
    return this.#options.granted.size > 0;
  }

  #progress(acknowledged: number, now: Millis): Buffer[] {
    this.#acknowledged = acknowledged;
    this.#timer.answered(now - this.#sentAt);
    return this.state === 'running' ? this.#send(false, now) : [];
  }

  #send(offer: boolean, now: Millis): Buffer[] {
    this.#sentAt = now;
    this.#retryAt = now + this.#timer.wait;
    if (offer) {
      this.#sent = 0;
      return [encodeOptions(this.#options.granted)];
    }
    const from = this.#acknowledged + 1;
    this.#sent = Math.min(this.#acknowledged + this.#options.windowSize, this.blocks);
    return Array.from({ length: this.#sent - from + 1 }, (_, index) => this.#block(from + index));
  }

  #block(block: number): Buffer {
    const end = block * this.#options.blockSize;
    return encodeData(block, this.#data, end - this.#options.blockSize, Math.min(end, this.#data.length));
  }
}
