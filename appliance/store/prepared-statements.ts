/**
 * Which statements a connection prepares under a name: then PostgreSQL parses and plans them once a connection instead of
 * each time, which is more than half of what it does for one that reads or writes a row.
 *
 * What is prepared stays so for as long as its connection. So only so many get a name, those that come again first; others, such
 * as a list that is as long as it happens to be, go unprepared.
 */
export class PreparedStatements {
  readonly #names = new Map<string, string>();
  /** How often each of those without a name came. */
  readonly #seen = new Map<string, number>();

  nameOf(text: string): string | undefined {
    const name = this.#names.get(text);
    if (name !== undefined || this.#names.size === MOST) return name;
    const seen = (this.#seen.get(text) ?? 0) + 1;
    if (seen < COMES_AGAIN) {
      if (this.#seen.size === MOST) this.#seen.clear();
      this.#seen.set(text, seen);
      return undefined;
    }
    this.#seen.delete(text);
    const given = `s${String(this.#names.size)}`;
    this.#names.set(text, given);
    return given;
  }
}

/** A request is made of some 120 statements; each takes a connection 10 to 40 KiB. */
const MOST = 400;
const COMES_AGAIN = 10;
