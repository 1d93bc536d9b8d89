import type { Clock, Millis } from '../kernel/clock.ts';
import { SECOND } from '../kernel/clock.ts';
import type { Output } from './context.ts';
import { Meter } from './meter.ts';
import { duration, printable } from './text.ts';

const REDRAW_EVERY = SECOND / 5;
const TELL_EVERY = 5 * SECOND;

/** What long work says of itself: a line for each thing that is done, and where somebody watches a last line that lives. */
export class Progress {
  readonly #output: Output;
  readonly #clock: Clock;
  readonly #began: Millis;
  #live = '';

  constructor({ stderr, clock }: { stderr: Output; clock: Clock }) {
    this.#output = stderr;
    this.#clock = clock;
    this.#began = clock.now();
  }

  /** Stays, behind the time since the work began. */
  line(text: string): void {
    this.#erase();
    this.#output.write(`[${this.#elapsed()}] ${printable(text)}\n`);
    this.#draw();
  }

  /** What goes on now; gone when the next line or the end comes. Files and pipes don't see it. */
  live(text: string): void {
    this.#erase();
    this.#live = printable(text);
    this.#draw();
  }

  end(): void {
    this.#erase();
    this.#live = '';
  }

  /**
   * Counts the bytes of one piece of work; `done` of them were there before. Where nobody watches, a line every five seconds tells
   * what else the last line would.
   */
  meter(what: string, done = 0): (done: number, total: number | null) => void {
    const meter = new Meter(this.#clock, what, done);
    const isWatched = this.#output.isTTY === true;
    const every = isWatched ? REDRAW_EVERY : TELL_EVERY;
    let next = this.#clock.now() + (isWatched ? 0 : every);
    return (done, total) => {
      const now = this.#clock.now();
      meter.count(done);
      if (now < next) return;
      next = now + every;
      const text = meter.text(total, isWatched);
      if (isWatched) this.live(text);
      else this.line(text);
    };
  }

  #draw(): void {
    if (this.#output.isTTY !== true || this.#live === '') return;
    const line = `[${this.#elapsed()}] ${this.#live}`;
    this.#output.write(line.slice(0, (this.#output.columns ?? 80) - 1));
  }

  #erase(): void {
    // ECMA-48: to the line's start, and erase to its end.
    if (this.#output.isTTY === true && this.#live !== '') this.#output.write('\r\u001b[K');
  }

  #elapsed(): string {
    return duration(this.#clock.now() - this.#began).padStart(8);
  }
}
