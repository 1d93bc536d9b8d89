import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import SqliteFile from 'better-sqlite3';
import pg from 'pg';

import { tinyDisk } from '../disk/tiny-disk.ts';
import { onAbruptEnd } from '../process/abrupt-end.ts';
import { startPostgres } from '../test/postgres.ts';
import { startRedis } from '../test/redis.ts';
import { ask } from '../workers/client.ts';
import type { Workers } from '../workers/workers.ts';
import { startWorkers } from '../workers/workers.ts';
import { cpuSeconds, forgetPeak, peakBytes } from './daemon-cost.ts';

export type SiteKind = 'SQLite' | 'PostgreSQL';

/** A database that outlives the daemons on it. */
export interface PipelineSite {
  /** Of a server, for clients beside the daemons. */
  readonly url: string | undefined;
  /** Starts so many daemons, with more lines of configuration; rejects with none left. */
  start(count: number, settings: readonly string[]): Promise<Workers>;
  /** Reads beside them; numbers may come as text. */
  query(sql: string): Promise<Record<string, unknown>[]>;
  close(): Promise<void>;
}

/** With what a database does for durability by default: a bench in which nothing has to reach the disk measures something else. */
export async function openPipelineSite(kind: SiteKind): Promise<PipelineSite> {
  // Not a memory file system: each commit is to reach a disk.
  const directory = await mkdtemp(join(tmpdir(), 'rs-pipeline-'));
  const remove = () => rmSync(directory, { recursive: true, force: true });
  const cancel = onAbruptEnd(remove);
  const database = kind === 'SQLite' ? sqlite(join(directory, 'rackstart.db')) : await postgres();
  return {
    url: kind === 'SQLite' ? undefined : database.store,
    start: (count, settings) =>
      startWorkers({ ...{ directory, count, settings }, store: database.store, redis: database.redis }),
    query: database.query,
    async close() {
      await database.close();
      cancel();
      remove();
    },
  };
}

interface BenchDatabase extends Pick<PipelineSite, 'query' | 'close'> {
  readonly store: string;
  readonly redis: string | undefined;
}

function sqlite(path: string): BenchDatabase {
  let reader: SqliteFile.Database | undefined;
  return {
    store: `sqlite:${path}`,
    redis: undefined,
    query(sql) {
      // The first daemon makes the file.
      reader ??= new SqliteFile(path, { readonly: true });
      return Promise.resolve(reader.prepare<[], Record<string, unknown>>(sql).all());
    },
    close() {
      reader?.close();
      return Promise.resolve();
    },
  };
}

async function postgres(): Promise<BenchDatabase> {
  const durable = { fsync: 'on', synchronous_commit: 'on', full_page_writes: 'on' };
  const [server, redis] = await Promise.all([startPostgres({ settings: durable }), startRedis()]);
  const client = new pg.Client({ connectionString: server.url, application_name: 'bench' });
  await client.connect();
  return {
    store: server.url,
    redis: redis.url,
    query: async (sql) => (await client.query<Record<string, unknown>>(sql)).rows,
    async close() {
      await client.end();
      await Promise.all([server.stop(), redis.stop()]);
    },
  };
}

/** A region, a flavor, an image and so many tenants whose quota is never the limit; the tenants' ids. */
export async function describeSite(workers: Workers, tenants: number): Promise<string[]> {
  const post = <T>(path: string, body: object) => ask<T>(workers, 0, { method: 'POST', path, key: workers.key, body });
  await post('/regions', { name: 'home' });
  await post('/flavors', { name: 'small', cores: 1, memoryMib: 512, diskGib: 10, nics: 'same' });
  const image = zstdCompressSync(tinyDisk());
  const sha256 = createHash('sha256').update(image).digest('hex');
  const query = new URLSearchParams({ name: 'empty', version: '1', sha256, kernelArgs: 'quiet' });
  await post(`/images?${query.toString()}`, image);
  const ids: string[] = [];
  for (let number = 0; number < tenants; number += 1) {
    ids.push((await post<{ id: string }>('/tenants', { name: `tenant-${String(number)}` })).id);
  }
  const all = { method: 'GET', path: '/quotas', key: workers.key } as const;
  const { quotas } = await ask<{ quotas: { kind: string; id: string }[] }>(workers, 0, all);
  for (const { kind, id } of quotas) {
    const body = { servers: 1_000_000, cores: 1_000_000, diskGib: 100_000_000, reason: 'a bench' };
    await ask(workers, 0, { method: 'PATCH', path: `/quotas/${kind}/${id}`, key: workers.key, body });
  }
  return ids;
}

/** What an order of the bench asks for, in one of its clusters. */
export function orderOf(number: number, clusters: number): Record<string, unknown> {
  const what = { hostname: `web-${String(number)}`, region: 'home', flavor: 'small', image: 'empty' };
  return { ...what, sshKeys: [SSH_KEY], provider: 'simulation', cluster: `lab-${String(number % clusters)}` };
}

/** Calls that take as long each time, so that what a request spends in its provider is known to the millisecond. */
export function clusters(count: number, delays: ProviderTimes): string[] {
  const { call, probe, start } = delays;
  const always = (ms: number) => `{ least: ${String(ms)}, usual: ${String(ms)}, most: ${String(ms)} }`;
  return [
    'simulation:',
    '  clusters:',
    ...Array.from({ length: count }, (_, index) => [
      `    - name: lab-${String(index)}`,
      '      shape: proxmox',
      '      delays:',
      `        create: ${always(call)}`,
      `        find: ${always(call)}`,
      `        delete: ${always(call)}`,
      `        probe: ${always(probe)}`,
      `        start: { least: ${String(start.least)}, usual: ${String(start.usual)}, most: ${String(start.most)} }`,
    ]).flat(),
  ];
}

/** What the simulated provider takes, ms; how long a start took is recorded with each server. */
export interface ProviderTimes {
  readonly call: number;
  readonly probe: number;
  readonly start: { readonly least: number; readonly usual: number; readonly most: number };
}

/** What the daemons cost from one moment to another. */
export interface Cost {
  readonly cpuSeconds: number;
  /** Of the largest of them. */
  readonly peakMib: number;
}

export async function meter(workers: Workers): Promise<() => Promise<Cost>> {
  const pids = Array.from({ length: workers.count }, (_, index) => workers.pid(index));
  const cpu = async () => (await Promise.all(pids.map(cpuSeconds))).reduce((sum, one) => sum + one, 0);
  await Promise.all(pids.map(forgetPeak));
  const before = await cpu();
  return async () => {
    const peaks = await Promise.all(pids.map(peakBytes));
    return { cpuSeconds: (await cpu()) - before, peakMib: Math.max(...peaks) / 1024 ** 2 };
  };
}

const SSH_KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6MDEyMzQ1 tenant';
