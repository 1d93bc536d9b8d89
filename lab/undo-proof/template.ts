import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { HOUR } from '../../appliance/kernel/clock.ts';
import { silentLog } from '../../appliance/kernel/log.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { openStore } from '../../appliance/store/open.ts';
import type { Store } from '../../appliance/store/store.ts';
import { onAbruptEnd } from '../process/abrupt-end.ts';

const MADE_AT = Date.UTC(2026, 0, 1);

/** When every trial begins: later, so that no id is given twice. */
export const BEGINNING = MADE_AT + HOUR;

/**
 * A database that is made once and copied for each trial: a trial begins with the same rows as every other, can be repeated
 * alone, and costs 2 ms to begin. In memory, where there is such a place: what is tried is never the disk.
 */
export class Template {
  readonly #directory = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'rs-undo-'));
  readonly #forget = onAbruptEnd(() => rmSync(this.#directory, { recursive: true, force: true }));
  #copies = 0;

  static async make(describe: (store: Store, clock: ManualClock) => Promise<void>): Promise<Template> {
    const template = new Template();
    const clock = new ManualClock(MADE_AT);
    const store = await openStore({ url: `sqlite:${template.#path('template')}`, clock, log: silentLog });
    await describe(store, clock);
    await store.close();
    return template;
  }

  /** The path of a new copy. */
  copy(): string {
    this.#copies += 1;
    const path = this.#path(String(this.#copies));
    copyFileSync(this.#path('template'), path);
    return path;
  }

  discard(path: string): void {
    for (const suffix of ['', '-wal', '-shm', '.lock']) rmSync(path + suffix, { force: true });
  }

  /** For what Node has compiled, so that the next process need not: it starts in half the time. */
  get compiled(): string {
    return join(this.#directory, 'compiled');
  }

  remove(): void {
    this.#forget();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #path(name: string): string {
    return join(this.#directory, `${name}.db`);
  }
}
