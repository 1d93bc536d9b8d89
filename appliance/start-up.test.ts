import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { createIds } from './kernel/ids.ts';
import { silentLog } from './kernel/log.ts';
import { Secret } from './kernel/secret.ts';
import { firstOperatorKey } from './start-up.ts';
import { eachStore } from './store/test-stores.ts';

eachStore('a first start that broke off leaves no operator without a key', async (t, store, { clock }) => {
  const directory = t.testdir();
  const ids = createIds(clock);
  const deps = { ids, clock, hmacKey: new Secret('h'.repeat(32)), log: silentLog };
  const dying = {
    ...ids,
    random(): Buffer {
      throw new Error('killed');
    },
  };
  await t.rejects(firstOperatorKey(store, directory, { ...deps, ids: dying }), { message: 'killed' });

  await firstOperatorKey(store, directory, deps);
  t.match(await readFile(join(directory, 'operator.key'), 'utf8'), /^rackstart_[0-9a-f]{40}\n$/);
});
