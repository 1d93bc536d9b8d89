import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { test } from 'tap';
import type { Test } from 'tap';

import { silentLog } from '../appliance/kernel/log.ts';
import { ManualClock } from '../appliance/kernel/manual-clock.ts';
import { openStore } from '../appliance/store/open.ts';
import { sqliteUrl } from '../appliance/store/test-stores.ts';
import { scratch } from './ingest/qemu-img.fixture.ts';

const DISK = String(8 * 1024 ** 2);

for (const stage of ['begun', 'hashing', 'freezing']) {
  void test(`an import whose daemon is killed while it is ${stage} goes on at the next start, and is done once`, async (t) => {
    const [url, directory] = [sqliteUrl(t), scratch(t)('state')];
    await killed(t, [url, directory, DISK], stage);
    const told = await finished(t, [url, directory]);
    t.equal(told.at(-1), 'done', told.join());
    const store = await openStore({ url, clock: new ManualClock(), log: silentLog });
    t.teardown(() => store.close());
    t.match(await store.read.selectFrom('images').selectAll().execute(), [{ name: 'debian', root_partition: 1 }]);
    t.match(await store.read.selectFrom('image_imports').selectAll().execute(), [{ state: 'done', failure: null }]);
    const events = await store.read.selectFrom('events').select('type').orderBy('id').execute();
    t.same(
      events.map(({ type }) => type),
      ['image.import-begun', 'inventory.added'],
    );
    const images = join(directory, 'images');
    t.same([readdirSync(join(images, 'imports')), readdirSync(join(images, 'uploads'))], [[], []], 'nothing is left');
  });
}

/** Tells its stages; is killed when it tells this one. */
async function killed(t: Test, args: readonly string[], stage: string): Promise<void> {
  const child = start(t, args);
  for await (const line of createInterface(child.stdout)) if (line === stage) child.kill('SIGKILL');
  t.equal(child.signalCode ?? 'SIGKILL', 'SIGKILL');
}

async function finished(t: Test, args: readonly string[]): Promise<string[]> {
  const told: string[] = [];
  for await (const line of createInterface(start(t, args).stdout)) told.push(line);
  return told;
}

function start(t: Test, args: readonly string[]) {
  const program = join(import.meta.dirname, 'image-imports-process.fixture.ts');
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}
