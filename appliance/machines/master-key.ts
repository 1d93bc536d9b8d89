import { rename, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

import { syncDirectory } from '../kernel/durable-file.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Log } from '../kernel/log.ts';
import { Secret } from '../kernel/secret.ts';
import type { MasterKey } from './bmc/credentials.ts';
import { MasterKeys, generateMasterKey, loadMasterKey } from './bmc/credentials.ts';
import type { Store, Tx } from '../store/store.ts';

/** The master key of this appliance; the first start makes it. */
export async function openMasterKeys(path: string, ids: Ids, log: Log): Promise<MasterKeys> {
  if (!(await exists(path))) {
    log.info({ path }, 'made a new master key: keep a copy of it apart from the database');
    return new MasterKeys(await generateMasterKey(path, ids));
  }
  // A rotation that was killed half-way left two keys, and rows under either.
  const unfinished = await nextKey(path);
  return new MasterKeys(await loadMasterKey(path), unfinished === undefined ? [] : [unfinished]);
}

/**
 * Replaces the master key and seals everything anew under it; what is derived from sealed keys (tokens, API keys) stays
 * valid. Killed at any moment, it is finished by running it again, and until then the daemon starts with both keys.
 * Returns how many rows were sealed anew. Errors: `key.mismatch`, `config.invalid`.
 */
export async function rotateMasterKey(store: Store, path: string, ids: Ids): Promise<number> {
  const old = await loadMasterKey(path);
  const next = (await nextKey(path)) ?? (await generateMasterKey(nextPath(path), ids));
  const keys = new MasterKeys(next, [old]);
  const sealed = await store.transaction((tx) => reseal(tx, keys, ids));
  await rename(nextPath(path), path);
  await syncDirectory(dirname(path));
  return sealed;
}

async function reseal(tx: Tx, keys: MasterKeys, ids: Ids): Promise<number> {
  let sealed = 0;
  for (const table of ['machines', 'expected_machines', 'accept_rules'] as const) {
    for (const { id, bmc_password } of await tx.selectFrom(table).select(['id', 'bmc_password']).execute()) {
      const anew = keys.reseal(bmc_password, id, ids);
      if (anew === undefined) continue;
      await tx.updateTable(table).set({ bmc_password: anew }).where('id', '=', id).execute();
      sealed += 1;
    }
  }
  for (const row of await tx.selectFrom('sealed_keys').selectAll().execute()) {
    const anew = keys.reseal(row.sealed, row.name, ids);
    if (anew === undefined) continue;
    await tx.updateTable('sealed_keys').set({ sealed: anew }).where('name', '=', row.name).execute();
    sealed += 1;
  }
  return sealed;
}

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

const nextPath = (path: string) => `${path}.next`;

async function nextKey(path: string): Promise<MasterKey | undefined> {
  return (await exists(nextPath(path))) ? loadMasterKey(nextPath(path)) : undefined;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
