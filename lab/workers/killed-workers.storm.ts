import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { zstdCompressSync } from 'node:zlib';
import pg from 'pg';
import { t as file, test } from 'tap';

import { tinyDisk } from '../disk/tiny-disk.ts';
import { draw } from '../../appliance/kernel/seeded.ts';
import { until } from '../process/until.ts';
import { postgresMissing, startPostgres } from '../test/postgres.ts';
import { redisMissing, startRedis } from '../test/redis.ts';
import { showInReport } from '../test/report-file.ts';
import { ask } from './client.ts';
import { recordEffects } from './effects.ts';
import { mishapsUntil } from './mishaps.ts';
import { brokenClaims } from './outcomes.ts';
import type { Workers } from './workers.ts';
import { startWorkers } from './workers.ts';

const WORKERS = 4;
const REQUESTS = Number(process.env['RACKSTART_REQUESTS'] ?? 2_000);
const TENANTS = 20;
/** Of the requests, how many somebody cancels or releases while the storm goes on. */
const GIVEN_BACK = 0.1;
const CANCEL_WITHIN_MS = 60_000;
const ASKED_AT_ONCE = 12;
/** On two cores of its own 2,000 requests take a tenth of it. */
const END_WITHIN_MS = 20 * 60_000 * Math.max(1, REQUESTS / 2_000);
/** The storm goes on until so many of the requests are at rest. */
const STORM_SHARE = 0.9;
/** What a server of the simulated cluster is made of: Proxmox VE in `simulation/shapes.ts`. */
const RESOURCES = 6;
const SSH_KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6MDEyMzQ1 tenant';

const settings = [
  'log: info',
  'api: { port: 0, rateLimit: { perSecond: 100000, burst: 100000 } }',
  'fairness: { perTenant: 10, inAll: 200 }',
  'simulation:',
  '  clusters:',
  '    - name: lab',
  '      shape: proxmox',
  '      delays:',
  '        create: { least: 5, usual: 10, most: 60 }',
  '        start: { least: 20, usual: 50, most: 400 }',
  '        find: { least: 1, usual: 2, most: 10 }',
  '        delete: { least: 5, usual: 10, most: 60 }',
  '        probe: { least: 1, usual: 2, most: 10 }',
  '      failureRates:',
  '        create: { passing: 0.02, permanent: 0.01 }',
  '        delete: { passing: 0.02 }',
];

file.setTimeout(2 * END_WITHIN_MS);

const missing = postgresMissing() ?? redisMissing();

test(
  `${REQUESTS} requests end once each, though of ${WORKERS} workers some are killed and one stands still, and Redis and connections go`,
  { skip: missing ?? false },
  async (t) => {
    const seed = process.env['RACKSTART_SEED'] ?? randomBytes(4).toString('hex');
    const began = performance.now();
    const say = (line: string) => console.error(`${((performance.now() - began) / 1000).toFixed(1)} s  ${line}`);
    say(`RACKSTART_SEED=${seed} has the same orders, releases and mishaps again`);
    const directory = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'rs-workers-'));
    const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
    const database = new pg.Pool({ connectionString: postgres.url, application_name: 'storm', max: 2 });
    // The server goes before its last idle connection does.
    database.on('error', () => undefined);
    t.teardown(() => Promise.all([database.end(), postgres.stop(), redis.stop()]));
    const workers = await startWorkers({
      ...{ directory, count: WORKERS, store: postgres.url, redis: redis.url },
      settings: settings.map((line) => line.replace('name: lab', `name: lab\n      seed: "${seed}"`)),
    });
    try {
      await recordEffects(database);
      const keys = await describe(workers);
      say(`${WORKERS} workers are ready`);
      const over = new AbortController();
      const started = performance.now();
      const stormy = Promise.all([orderAll(workers, keys, seed), atRest(database, REQUESTS * STORM_SHARE)]);
      const sayWhere = async (line: string) => say(`${line}; ${await countAtRest(database)} requests are at rest`);
      const [happened] = await Promise.all([
        mishapsUntil(over.signal, { workers, redis, database }, seed, sayWhere),
        stormy.finally(() => over.abort()),
      ]);
      await atRest(database, REQUESTS);
      const seconds = (performance.now() - started) / 1000;
      say(`${REQUESTS} requests in ${seconds.toFixed(1)} s, ${(REQUESTS / seconds).toFixed(1)}/s`);
      const told = JSON.stringify({ ...happened, ...(await figures(database)) });
      say(told);
      showInReport(`Several workers, seed ${seed}: ${REQUESTS} requests in ${seconds.toFixed(0)} s under ${told}.`);
      const kinds = [happened.workerKills, happened.redisKills, happened.cuts, happened.standstills];
      t.notOk(kinds.includes(0), 'there was a storm');
      t.same(await brokenClaims(database, RESOURCES), []);
      t.match(await workers.doctor(), /invariants hold/);
      const { rows } = await database.query<{ count: number }>('select count(*)::int as count from requests');
      t.equal(rows[0]?.count, REQUESTS, 'an order whose answer was cut off was not taken twice');
      t.same(await workers.defects(), []);
    } catch (error) {
      t.fail(error instanceof Error ? (error.stack ?? error.message) : String(error));
    }
    t.same(
      (await workers.stop()).map(({ code }) => code),
      Array.from({ length: WORKERS }, () => 0),
      'all end in order',
    );
    if (t.passing()) rmSync(directory, { recursive: true });
    else console.error(`evidence is kept in ${directory}`);
  },
);

/** A region, a flavor, an image and tenants, by the API; the tenants' keys. */
async function describe(workers: Workers): Promise<string[]> {
  const post = <T>(path: string, body: object) => ask<T>(workers, 0, { method: 'POST', path, key: workers.key, body });
  await post('/regions', { name: 'home' });
  await post('/flavors', { name: 'small', cores: 2, memoryMib: 2048, diskGib: 20, nics: 'same' });
  const image = zstdCompressSync(tinyDisk());
  const sha256 = createHash('sha256').update(image).digest('hex');
  const query = new URLSearchParams({ name: 'empty', version: '1', sha256, kernelArgs: 'quiet' });
  await post(`/images?${query.toString()}`, image);
  const keys: string[] = [];
  for (let number = 0; number < TENANTS; number += 1) {
    const name = `tenant-${number}`;
    const { id: tenant } = await post<{ id: string }>('/tenants', { name });
    keys.push((await post<{ key: string }>('/api-keys', { name, tenant })).key);
  }
  return keys;
}

/** Every order, to whichever worker answers; some are given back, by another. */
async function orderAll(workers: Workers, keys: readonly string[], seed: string): Promise<void> {
  const numbers = Array.from({ length: REQUESTS }, (_, number) => number).values();
  const given: Promise<unknown>[] = [];
  const lane = async () => {
    for (const number of numbers) {
      const key = keys[number % keys.length]!;
      const first = Math.floor(draw(seed, 'asked', number) * WORKERS);
      const body = { hostname: `web-${number}`, region: 'home', flavor: 'small', image: 'empty', sshKeys: [SSH_KEY] };
      const order = { ...body, provider: 'simulation' };
      const asked = { method: 'POST', path: '/servers', key, body: order, idempotencyKey: `order-${number}` } as const;
      const { id } = await ask<{ id: string }>(workers, first, asked);
      if (draw(seed, 'given back', number) >= GIVEN_BACK) continue;
      const back = giveBack({ workers, id, key, first: first + 1, soon: draw(seed, 'soon', number) });
      // Who comes to the end waits for it; should another order fail first, nobody does.
      back.catch(() => undefined);
      given.push(back);
    }
  };
  await Promise.all(Array.from({ length: ASKED_AT_ONCE }, lane));
  await Promise.all(given);
}

/** Half of them at a moment when they are under way, or queued still; half when they have ended. */
async function giveBack(asked: { workers: Workers; id: string; key: string; first: number; soon: number }) {
  const { workers, id, key, first, soon } = asked;
  const path = `/servers/${id}`;
  const state = async () => (await ask<{ state: string }>(workers, first, { method: 'GET', path, key })).state;
  if (soon < 0.5) await pause(soon * CANCEL_WITHIN_MS);
  else while (!['completed', 'rolled-back'].includes(await state())) await pause(3_000);
  await ask(workers, first, { method: 'DELETE', path, key });
}

async function atRest(database: pg.Pool, wanted: number): Promise<void> {
  await until(`${wanted} requests at rest`, END_WITHIN_MS, async () => {
    // Counting takes part of what is counted.
    await pause(500);
    return (await countAtRest(database)) >= wanted;
  });
}

/** Of the requests, how many have come to an end that nothing but a caller changes. */
async function countAtRest(database: pg.Pool): Promise<number> {
  const { rows } = await database.query<{ count: number }>(`select count(*)::int as count from requests r
    join attempts a on a.request_id = r.id join sagas s on s.id = a.saga_id
    where r.state in ('completed', 'rolled-back', 'deprovisioned') and (s.wake_at is null or s.state = 'stuck')`);
  return rows[0]?.count ?? 0;
}

/** What became of the requests, and how often a worker went on with what another had begun. */
async function figures(database: pg.Pool): Promise<Record<string, unknown>> {
  const states = await database.query<{ state: string; count: number }>(
    'select state, count(*)::int as count from requests group by state order by state',
  );
  const { rows } = await database.query<Record<string, number>>(`select
    (select count(*)::int from events) as events,
    (select count(*)::int from sagas where epoch > 1) as "sagasClaimedAgain",
    (select max(epoch)::int from sagas) as "mostClaims"`);
  return { ...Object.fromEntries(states.rows.map(({ state, count }) => [state, count])), ...rows[0] };
}
