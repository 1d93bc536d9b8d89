import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock } from './kernel/clock.ts';
import { writeOnce } from './kernel/durable-file.ts';
import type { Ids } from './kernel/ids.ts';
import type { Log } from './kernel/log.ts';
import { Secret } from './kernel/secret.ts';
import type { Store } from './store/store.ts';
import { adoptApiKey, newApiKey } from './tenants/api-key.ts';

/**
 * The operator's first key, in `operator.key` of the state directory for its owner's eyes: without it nobody could ask for
 * another. A key that was revoked stays revoked.
 */
export async function firstOperatorKey(
  store: Store,
  directory: string,
  { ids, clock, hmacKey, log }: { ids: Ids; clock: Clock; hmacKey: Secret; log: Log },
): Promise<void> {
  const path = join(directory, 'operator.key');
  const key = await readOrWrite(path, () => newApiKey(ids).reveal());
  await store.transaction((tx) => adoptApiKey(tx, { name: 'operator' }, key, { ids, hmacKey, at: clock.now() }));
  log.debug({ path }, "the operator's first key is here");
}

async function readOrWrite(path: string, make: () => string): Promise<Secret> {
  try {
    await writeOnce(path, `${make()}\n`, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return new Secret((await readFile(path, 'utf8')).trim());
}
