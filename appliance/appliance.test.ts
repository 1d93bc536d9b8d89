import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { Test } from 'tap';

import type { Running } from './appliance.ts';
import { runAppliance } from './appliance.ts';
import { parseConfig } from './config.ts';
import { systemClock } from './kernel/clock.ts';
import { createIds } from './kernel/ids.ts';
import { silentLog } from './kernel/log.ts';
import { sqliteUrl, testDatabases } from './store/test-stores.ts';

test('the daemon starts on an empty SQLite file, answers, and starts again on what it wrote', async (t) => {
  await startsTwice(t, sqliteUrl(t));
});

test('the daemon starts on an empty PostgreSQL database, answers, and starts again on what it wrote', async (t) => {
  const databases = await testDatabases();
  if (typeof databases === 'string') t.plan(0, databases);
  else await startsTwice(t, await databases.createEmpty());
});

async function startsTwice(t: Test, store: string): Promise<void> {
  const state = mkdtempSync(join(tmpdir(), 'rs-appliance-'));
  t.teardown(() => rmSync(state, { recursive: true }));
  const config = parseConfig(
    `{ state: ${state}, store: '${store}', ramdisk: none, api: { port: 0 }, provisioning: [] }`,
    state,
    {},
  );
  const key = () => readFileSync(join(state, 'operator.key'), 'utf8').trim();

  await whileRunning(config, async ({ api: { host, port } }) => {
    const call = (method: string, path: string, body?: object) =>
      fetch(`http://${host}:${String(port)}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${key()}`, ...(body && { 'content-type': 'application/json' }) },
        ...(body && { body: JSON.stringify(body) }),
      });
    t.equal((await call('POST', '/regions', { name: 'north' })).status, 201);
  });
  const first = key();
  await whileRunning(config, async ({ api: { host, port } }) => {
    const answer = await fetch(`http://${host}:${String(port)}/api/v1/regions`, {
      headers: { authorization: `Bearer ${first}` },
    });
    t.match(await answer.json(), { regions: [{ name: 'north' }] }, 'the same key sees what was written');
  });
}

/** Runs the daemon for as long as `work` takes, and waits until it has ended in order. */
async function whileRunning(
  config: Parameters<typeof runAppliance>[0],
  work: (running: Running) => Promise<void>,
): Promise<void> {
  const ending = new AbortController();
  const ready = Promise.withResolvers<Running>();
  const surroundings = { clock: systemClock, ids: createIds(systemClock), log: silentLog };
  const ended = runAppliance(config, surroundings, ending.signal, (running) => ready.resolve(running));
  ended.catch((error: unknown) => ready.reject(error));
  try {
    await work(await ready.promise);
  } finally {
    ending.abort();
    await ended;
  }
}
