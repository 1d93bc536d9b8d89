import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';

import { createIds } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import { generateMasterKey } from './bmc/credentials.ts';
import { dataKey, openMasterKeys, rotateMasterKey } from './master-key.ts';
import { eachStore } from '../store/test-stores.ts';

eachStore(
  'a new master key opens what the old one sealed, and nothing derived changes',
  async (t, store, { clock }) => {
    const ids = createIds(clock);
    const path = keyFile(t);
    const before = await dataKey(store, await openMasterKeys(path, ids, silentLog), 'api-keys', ids);

    t.equal(await rotateMasterKey(store, path, ids), 1);

    const after = await dataKey(store, await openMasterKeys(path, ids, silentLog), 'api-keys', ids);
    t.equal(after.reveal(), before.reveal());
    t.notOk(existsSync(`${path}.next`));
  },
);

eachStore(
  'a rotation that was killed half-way leaves an appliance that starts, and is finished later',
  async (t, store, { clock }) => {
    const ids = createIds(clock);
    const path = keyFile(t);
    const before = await dataKey(store, await openMasterKeys(path, ids, silentLog), 'api-keys', ids);
    // Killed before the rows were sealed anew …
    await generateMasterKey(`${path}.next`, ids);
    const between = await dataKey(store, await openMasterKeys(path, ids, silentLog), 'api-keys', ids);
    t.equal(between.reveal(), before.reveal());

    t.equal(await rotateMasterKey(store, path, ids), 1);
    const after = await dataKey(store, await openMasterKeys(path, ids, silentLog), 'api-keys', ids);
    t.equal(after.reveal(), before.reveal());
  },
);

eachStore('without its master key a database stays shut', async (t, store, { clock }) => {
  const ids = createIds(clock);
  await dataKey(store, await openMasterKeys(keyFile(t), ids, silentLog), 'api-keys', ids);
  const other = await openMasterKeys(keyFile(t), ids, silentLog);
  await t.rejects(dataKey(store, other, 'api-keys', ids), { code: 'key.mismatch' });
});

function keyFile(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'rs-key-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return join(directory, 'master.key');
}
