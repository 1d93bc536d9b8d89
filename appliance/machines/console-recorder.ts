import type { TimelineEntry } from '../../pxe/timeline.ts';
import { SECOND } from '../kernel/clock.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { SecretMask } from '../kernel/secret-mask.ts';

export interface ConsoleRecorderOptions {
  readonly clock: Clock;
  /** Characters of this boot's console that were kept before, by a daemon that has ended since. */
  readonly kept: number;
  readonly tell: (entry: TimelineEntry) => void;
}

/**
 * What a serial console showed, as entries of the timeline: text in pieces, a second or 2 KiB each, secrets overwritten,
 * control characters spelled out, so that nobody's terminal obeys them. A console that prints without end fills no database:
 * there is a most for a second and a most for a boot.
 */
export class ConsoleRecorder {
  readonly #options: ConsoleRecorderOptions;
  // Nobody knows what was printed before we listened.
  readonly #mask = new SecretMask({ midway: true });
  #decoder = new TextDecoder();
  #text = '';
  #since: Millis = 0;
  #timer: AbortController | undefined;
  #carriage = false;
  #kept: number;
  #second = { from: 0, characters: 0 };
  #dropped = 0;
  #lost = false;

  constructor(options: ConsoleRecorderOptions) {
    this.#options = options;
    this.#kept = options.kept;
  }

  /** `lost`: something before it is missing. */
  write(characters: Buffer, lost: boolean): void {
    if (lost) this.gap();
    // Masked even when it is dropped: a secret may begin in what is dropped and end in what is kept.
    const text = this.#mask.mask(this.#decoder.decode(characters, { stream: true }));
    for (const character of text) this.#add(this.#spelled(character));
    if (this.#text !== '' && this.#timer === undefined) this.#flushLater();
  }

  /** The console was away for a while. */
  gap(): void {
    this.#mask.gap();
    this.#decoder = new TextDecoder();
    this.#lost = true;
  }

  /** Tells what waits. */
  flush(): void {
    this.#timer?.abort();
    this.#timer = undefined;
    if (this.#text === '') return;
    const [text, dropped, lost] = [this.#text, this.#dropped, this.#lost];
    [this.#text, this.#dropped, this.#lost] = ['', 0, false];
    this.#kept += text.length;
    const detail = { text, ...(dropped === 0 ? {} : { dropped }), ...(lost ? { lost } : {}) };
    this.#tell(this.#since, 'output', detail);
    if (this.#kept >= MOST_OF_A_BOOT) this.#tell(this.#options.clock.now(), 'full', { kept: this.#kept });
  }

  #add(spelled: string): void {
    if (spelled === '' || this.#kept >= MOST_OF_A_BOOT) return;
    const now = this.#options.clock.now();
    if (now - this.#second.from >= SECOND) this.#second = { from: now, characters: 0 };
    this.#second.characters += spelled.length;
    if (this.#second.characters > MOST_OF_A_SECOND) {
      this.#dropped += 1;
      return;
    }
    if (this.#text === '') this.#since = now;
    this.#text += spelled;
    if (this.#text.length >= PIECE || this.#kept + this.#text.length >= MOST_OF_A_BOOT) this.flush();
  }

  /** Line ends are one character, whatever the machine ends its lines with. */
  #spelled(character: string): string {
    const carriage = this.#carriage ? String.raw`\r` : '';
    this.#carriage = character === '\r';
    if (this.#carriage) return carriage;
    if (character === '\n') return '\n';
    const code = character.charCodeAt(0);
    const isControl = (code < 0x20 && character !== '\t') || (code >= 0x7f && code < 0xa0);
    return carriage + (isControl ? `\\x${code.toString(16).padStart(2, '0')}` : character);
  }

  #flushLater(): void {
    const { clock } = this.#options;
    const timer = new AbortController();
    this.#timer = timer;
    clock.sleepUntil(clock.now() + SECOND, timer.signal).then(
      () => this.flush(),
      () => undefined, // flushed before
    );
  }

  #tell(at: Millis, name: string, detail: TimelineEntry['detail']): void {
    this.#options.tell({ at, source: 'console', name, detail });
  }
}

const PIECE = 2 * 1024;
const MOST_OF_A_BOOT = 512 * 1024;
// Three times what a serial port of 115,200 bit/s brings.
const MOST_OF_A_SECOND = 32 * 1024;
