import type { Dice } from './dice.ts';

/**
 * A text that a regular expression of an API schema matches: literals, classes, groups, alternatives and repetitions, between
 * `^` and `$`. Throws at what it does not know, so that a new kind of pattern is noticed.
 */
export function matching(pattern: string, dice: Dice): string {
  const reader = new PatternReader(pattern.replace(/^\^/, '').replace(/\$$/, ''), dice);
  const text = reader.alternatives();
  if (!reader.isAtEnd) throw new Error(`what is this in a pattern: ${pattern}`);
  return text;
}

class PatternReader {
  readonly #pattern: string;
  readonly #dice: Dice;
  #at = 0;

  constructor(pattern: string, dice: Dice) {
    this.#pattern = pattern;
    this.#dice = dice;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#pattern.length;
  }

  alternatives(): string {
    const texts = [this.#sequence()];
    while (this.#take('|')) texts.push(this.#sequence());
    return this.#dice.pick(texts);
  }

  #sequence(): string {
    let text = '';
    while (!this.isAtEnd && !'|)'.includes(this.#pattern[this.#at]!)) text += this.#repeated();
    return text;
  }

  /** An atom is read again for each repetition, and once for none. */
  #repeated(): string {
    const start = this.#at;
    const first = this.#atom();
    const [least, most] = this.#repetition();
    const end = this.#at;
    const count = least + this.#dice.length(Math.min(most, least + 300) - least);
    if (count === 0) return '';
    let text = first;
    for (let more = 1; more < count; more++) {
      this.#at = start;
      text += this.#atom();
    }
    this.#at = end;
    return text;
  }

  #atom(): string {
    if (this.#take('(')) {
      this.#take('?:');
      const text = this.alternatives();
      this.#expect(')');
      return text;
    }
    if (this.#take('[')) return this.#class();
    if (this.#take('.')) return 'x';
    if (this.#take('\\')) return this.#escape();
    return this.#pattern[this.#at++] ?? '';
  }

  #class(): string {
    const isNegated = this.#take('^');
    const members: string[] = [];
    while (!this.#take(']')) {
      const from = this.#take('\\') ? this.#escape() : this.#pattern[this.#at++]!;
      const isRange = this.#pattern[this.#at] === '-' && this.#pattern[this.#at + 1] !== ']';
      if (!isRange) members.push(from);
      else {
        const to = this.#pattern[this.#at + 1]!;
        this.#at += 2;
        for (let code = from.charCodeAt(0); code <= to.charCodeAt(0); code++) members.push(String.fromCharCode(code));
      }
    }
    return this.#dice.pick(
      isNegated ? ['a', 'Z', '9', ' ', '+', '/'].filter((each) => !members.includes(each)) : members,
    );
  }

  #escape(): string {
    const letter = this.#pattern[this.#at++]!;
    return { d: '7', w: 'w', s: ' ', r: '\r', n: '\n', t: '\t' }[letter] ?? letter;
  }

  #repetition(): [least: number, most: number] {
    if (this.#take('?')) return [0, 1];
    if (this.#take('*')) return [0, 20];
    if (this.#take('+')) return [1, 20];
    if (!this.#take('{')) return [1, 1];
    const end = this.#pattern.indexOf('}', this.#at);
    const [least = '', most = least] = this.#pattern.slice(this.#at, end).split(',');
    this.#at = end + 1;
    return [Number(least), most === '' ? Number(least) + 20 : Number(most)];
  }

  #take(text: string): boolean {
    if (!this.#pattern.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #expect(text: string): void {
    if (!this.#take(text)) throw new Error(`${text} is missing in the pattern ${this.#pattern}`);
  }
}
