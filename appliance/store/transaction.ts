import type { Compilable, Kysely } from 'kysely';

import { RackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import type { StoreConnection } from './engine.ts';
import type { Database } from './schema.ts';
import type { Tx } from './store.ts';

const TRIES = 8;

/** Runs the closure in a transaction, again when the database chose it as the loser of a conflict, then its effects. */
export async function runTransaction<T>(writer: Kysely<Database>, work: (tx: Tx) => Promise<T>, log: Log): Promise<T> {
  for (let number = 1; ; number += 1) {
    const effects: (() => void)[] = [];
    const writes: (() => Promise<void>)[] = [];
    const own = (connection: StoreConnection) => ({
      defer: (query: Compilable) => connection.defer(query.compile()),
      beforeCommit: (write: () => Promise<void>) => void writes.push(write),
      afterCommit: (effect: () => void) => void effects.push(effect),
    });
    let result: T;
    try {
      result = await writer
        .transaction()
        .setIsolationLevel('read committed')
        .execute(async (transaction) => {
          const connection = await transaction
            .getExecutor()
            .provideConnection((one) => Promise.resolve(one as StoreConnection));
          const done = await work(Object.assign(transaction, own(connection)));
          for (const write of writes) await write();
          return done;
        });
    } catch (error) {
      if (!isConflict(error)) throw error;
      if (number === TRIES) {
        throw new RackstartError('store.unavailable', `A transaction lost ${TRIES} conflicts in a row.`, {
          cause: error,
        });
      }
      // No pause: the winner holds its locks, so that the next try queues behind it.
      log.debug({ err: error, try: number }, 'transaction lost a conflict and runs again');
      continue;
    }
    for (const effect of effects) perform(effect, log);
    return result;
  }
}

// 40001 serialization_failure, 40P01 deadlock_detected (PostgreSQL 15 manual, appendix A). SQLite has one writer: none.
function isConflict(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === '40001' || code === '40P01';
}

// What was committed stays committed, whatever an effect does.
function perform(effect: () => void, log: Log): void {
  try {
    effect();
  } catch (error) {
    log.error({ err: error }, 'an effect after a commit failed');
  }
}
