import type { Held } from '../providers/provider.ts';
import type { Reader } from '../store/store.ts';

/**
 * Those that a request which lives owns, or could: its attempt has not ended, or the saga that wrote the key down before it
 * made something of it is not undone. An undo that is stuck lives; one whose rest was skipped does not.
 */
export async function ownedOf(read: Reader, holdings: readonly Held[]): Promise<ReadonlySet<Held>> {
  const keys = new Set<string>();
  const attempts = new Set<string>();
  for (const { madeFor } of holdings) {
    if ('key' in madeFor) keys.add(madeFor.key);
    else attempts.add(madeFor.attemptId);
  }
  const live = new Set<string>();
  for (const some of chunks([...attempts])) {
    const rows = await read
      .selectFrom('attempts')
      .select('id')
      .where('id', 'in', some)
      .where('ended_at', 'is', null)
      .execute();
    for (const { id } of rows) live.add(`attempt ${id}`);
  }
  for (const some of chunks([...keys])) {
    const rows = await read
      .selectFrom('resources')
      .innerJoin('sagas', 'sagas.id', 'resources.saga_id')
      .select('resources.key')
      .where('resources.key', 'in', some)
      .where('sagas.state', '<>', 'undone')
      .execute();
    for (const { key } of rows) live.add(`key ${key}`);
  }
  return new Set(
    holdings.filter(({ madeFor }) =>
      live.has('key' in madeFor ? `key ${madeFor.key}` : `attempt ${madeFor.attemptId}`),
    ),
  );
}

// SQLite takes at most 32,766 values in a statement; a plan of some hundred is made soon, and looked up by index.
const CHUNK = 500;

function chunks(all: readonly string[]): string[][] {
  const count = Math.ceil(all.length / CHUNK);
  return Array.from({ length: count }, (_, index) => all.slice(index * CHUNK, (index + 1) * CHUNK));
}
