import { inspect } from 'node:util';

/**
 * A value that must not be printed: template strings, JSON, `console.log` and loggers all see `[secret]`.
 * `reveal()` is the only way in, so that every use can be found by name.
 */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return '[secret]';
  }

  toJSON(): string {
    return '[secret]';
  }

  [inspect.custom](): string {
    return '[secret]';
  }
}
