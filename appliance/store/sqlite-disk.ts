import { closeSync, fdatasync, openSync } from 'node:fs';
import { promisify } from 'node:util';
import type SqliteFile from 'better-sqlite3';

import { RackstartError } from '../kernel/errors.ts';
import type { Disk } from './sqlite-writer.ts';

/** After so many changed rows the log is moved into the file: that is some 1,000 pages (0.65 a row, 120 simulated servers). */
const CHANGES_IN_LOG = 1_500;

/**
 * Commits that are on the disk before anybody hears of them, without a disk that holds up the event loop. SQLite's own way,
 * `synchronous = full`, is to sync its log within the commit: on a disk that takes a second for that, nothing else is answered
 * for a second. With `normal` it leaves that one out (https://www.sqlite.org/pragma.html#pragma_synchronous), and we do it, in
 * a thread of Node's pool. What is committed and not synced yet SQLite would show: the connection that reads is kept on the
 * snapshot of before. A checkpoint within the commit would find that snapshot in its way: it is begun here, behind it.
 */
export class SqliteDisk implements Disk {
  readonly #log: string;
  readonly #reader: SqliteFile.Database;
  readonly #statements: Readonly<Record<'begin' | 'look' | 'end', SqliteFile.Statement>>;
  readonly #changes: SqliteFile.Statement<[], number>;
  readonly #checkpoint: SqliteFile.Statement<[], { busy: number; log: number; checkpointed: number }>;
  /** Of the log; SQLite keeps that file as long as it has a connection. */
  #descriptor: number | undefined;
  readonly #sync: (descriptor: number) => Promise<void>;
  #checkpointAt = CHANGES_IN_LOG;
  #isDoubtful = false;

  constructor(path: string, writer: SqliteFile.Database, reader: SqliteFile.Database, sync = promisify(fdatasync)) {
    this.#log = `${path}-wal`;
    this.#sync = sync;
    this.#reader = reader;
    writer.pragma('synchronous = normal');
    writer.pragma('wal_autocheckpoint = 0');
    this.#changes = writer.prepare<[], number>('select total_changes()').pluck();
    this.#checkpoint = writer.prepare('pragma wal_checkpoint(passive)');
    this.#statements = {
      begin: reader.prepare('begin'),
      // A snapshot is taken with the first look.
      look: reader.prepare('select 1 from sqlite_schema limit 1'),
      end: reader.prepare('commit'),
    };
  }

  hold(): void {
    if (this.#isDoubtful) throw unsynced('the last sync failed');
    this.#statements.begin.run();
    this.#statements.look.get();
  }

  async sync(): Promise<void> {
    try {
      this.#descriptor ??= openSync(this.#log, 'r');
      await this.#sync(this.#descriptor);
    } catch (error) {
      // The next sync would succeed: the kernel tells of pages that it could not write once, and forgets them.
      this.#isDoubtful = true;
      throw unsynced((error as Error).message, { cause: error, details: { commit: 'unknown' } });
    }
  }

  show(): void {
    // An error may have ended it.
    if (this.#reader.inTransaction) this.#statements.end.run();
    const changes = this.#changes.get() ?? 0;
    if (changes < this.#checkpointAt && !this.#isDoubtful) return;
    this.#checkpointAt = changes + CHANGES_IN_LOG;
    this.#moveIntoFile();
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
  }

  /** What is in the log is written to the file, and that is synced: whatever became of the log itself. */
  #moveIntoFile(): void {
    try {
      const moved = this.#checkpoint.get();
      // Who reads the file beside us may hold some of it back.
      if (moved?.busy === 0 && moved.log === moved.checkpointed) this.#isDoubtful = false;
    } catch {
      // The log has it all, and is moved the next time.
    }
  }
}

function unsynced(why: string, options: { cause?: unknown; details?: Readonly<Record<string, unknown>> } = {}) {
  return new RackstartError('store.unavailable', `SQLite's log is not synced: ${why}.`, options);
}
