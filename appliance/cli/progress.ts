import type { Clock, Millis } from '../kernel/clock.ts';
import type { Output } from './context.ts';
import { duration, printable } from './text.ts';

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
