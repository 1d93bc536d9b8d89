import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock } from './kernel/clock.ts';
import type { Ids } from './kernel/ids.ts';
import type { Log } from './kernel/log.ts';
import { Secret } from './kernel/secret.ts';
import type { MasterKeys } from './machines/bmc/credentials.ts';
import type { Store } from './store/store.ts';
import { adoptApiKey, newApiKey } from './tenants/api-key.ts';

/**
 * A key that this appliance derives others from, kept in the database sealed under the master key: a new master key reseals
 * it, and no token or API key changes. 32 bytes, hex.
 */
export async function dataKey(store: Store, keys: MasterKeys, name: string, ids: Ids): Promise<Secret> {
  const fresh = keys.seal(new Secret(ids.random(32).toString('hex')), name, ids);
  const sealed = await store.transaction(async (tx) => {
    await tx
      .insertInto('sealed_keys')
      .values({ name, sealed: fresh })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    return tx.selectFrom('sealed_keys').select('sealed').where('name', '=', name).executeTakeFirstOrThrow();
  });
  return keys.open(sealed.sealed, name);
}

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
    const file = await open(path, 'wx', 0o600);
    try {
      await file.writeFile(`${make()}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return new Secret((await readFile(path, 'utf8')).trim());
}
