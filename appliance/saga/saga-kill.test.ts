import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'tap';

import { systemClock } from '../kernel/clock.ts';
import { silentLog } from '../kernel/log.ts';
import { openStore } from '../store/open.ts';
import { sqliteUrl } from '../store/test-stores.ts';
import { daemon } from './saga-kill.fixture.ts';

test('a daemon killed between an effect and its record goes on where it was', async (t) => {
  const url = sqliteUrl(t);
  const directory = mkdtempSync(join(tmpdir(), 'rs-saga-kill-'));
  t.teardown(() => rmSync(directory, { recursive: true }));

  const fixture = join(import.meta.dirname, 'saga-kill.fixture.ts');
  const child = spawn(process.execPath, [fixture, url, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  t.equal(line, 'made b');
  child.kill('SIGKILL');
  await once(child, 'exit');

  const store = await openStore({ url, clock: systemClock, log: silentLog });
  t.teardown(() => store.close());
  t.match(await store.read.selectFrom('sagas').selectAll().execute(), [
    { state: 'running', owner: 'daemon', epoch: 1 },
  ]);
  t.match(await store.read.selectFrom('resources').select(['name', 'state']).orderBy('name').execute(), [
    { name: 'a', state: 'created' },
    { name: 'b', state: 'intended' },
  ]);

  const world = { directory, made: [] };
  const { sagas, runner } = daemon(store, world);
  const end = new AbortController();
  const running = runner.run(end.signal);
  const [{ id }] = (await reached('completed')) as [{ id: string }];
  t.same(world.made, [], 'what was made is found, not made again');
  t.same(readdirSync(directory), ['a', 'b']);

  await store.transaction((tx) => sagas.turnBack(tx, id, { code: 'cancelled', message: 'the test is over' }));
  await reached('undone');
  t.same(readdirSync(directory), []);
  end.abort();
  await running;

  async function reached(state: 'completed' | 'undone'): Promise<{ id: string }[]> {
    for (;;) {
      const rows = await store.read.selectFrom('sagas').select('id').where('state', '=', state).execute();
      if (rows.length > 0) return rows;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
});
