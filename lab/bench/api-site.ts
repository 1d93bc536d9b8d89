import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';

import { tinyDisk } from '../disk/tiny-disk.ts';
import { systemClock } from '../../appliance/kernel/clock.ts';
import { silentLog } from '../../appliance/kernel/log.ts';
import { openStore } from '../../appliance/store/open.ts';
import type { RunningProcess } from '../process/start.ts';
import { startProcess } from '../process/start.ts';
import { until } from '../process/until.ts';
import { inTurns } from '../sim/site.ts';

/** The daemon as a process of its own, a room of free machines, and tenants who order. */
export interface ApiSite {
  /** Orders a server, as the next of the tenants; rejects when it is refused. */
  order(): Promise<void>;
  /** What it tells Prometheus. */
  metrics(): Promise<string>;
  /** The same, once it says so. */
  metricsOnce(isThere: (text: string) => boolean): Promise<string>;
  close(): Promise<void>;
}

export interface ApiSiteOptions {
  readonly machines: number;
  /** A postgres:// URL; SQLite unless told. */
  readonly store?: string;
}

const MAIN = join(import.meta.dirname, '../../appliance/main.ts');
const MACHINES_PER_RACK = 40;
/** Below the API's own limit, which is 100. */
const SERVERS_PER_TENANT = 90;
const SSH_KEY = `ssh-ed25519 ${'A'.repeat(68)} bench`;

export async function openApiSite({ machines, store }: ApiSiteOptions): Promise<ApiSite> {
  const directory = await mkdtemp(join(tmpdir(), 'rs-api-bench-'));
  const state = join(directory, 'state');
  const config = join(directory, 'rackstart.yaml');
  const url = store ?? `sqlite:${join(directory, 'rackstart.db')}`;
  await writeFile(config, configuration(state, url));
  const start = () => serve(config, join(directory, 'log'));
  let daemon = await start();
  const close = async () => {
    await daemon.process.stop();
    await rm(directory, { recursive: true });
  };
  try {
    const operator = (await readFile(join(state, 'operator.key'), 'utf8')).trim();
    const keys = await describe((path, body) => post(daemon.url, operator, path, body), machines);
    await daemon.process.stop();
    await inspectAll(url);
    daemon = await start();
    let orders = 0;
    const metrics = async () => {
      const answer = await fetch(`${daemon.url}/metrics`, { headers: { authorization: `Bearer ${operator}` } });
      return answer.text();
    };
    return {
      async order() {
        const number = orders++;
        const wanted = { hostname: `web-${number}`, region: 'west', flavor: 'small', image: 'empty' };
        await post(daemon.url, keys[number % keys.length]!, '/servers', { ...wanted, sshKeys: [SSH_KEY] });
      },
      metrics,
      metricsOnce(isThere) {
        return until('what the daemon tells of its orders', 60_000, async () => {
          const text = await metrics();
          return isThere(text) && text;
        });
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** All orders are worked on at once: each is placed as soon as it is admitted. */
function configuration(state: string, store: string): string {
  // JSON is YAML.
  return JSON.stringify({
    ...{ state, store, ramdisk: 'none', provisioning: [] },
    api: { port: 0, rateLimit: { perSecond: 100_000, burst: 100_000 } },
    fairness: { perTenant: 10_000, inAll: 10_000 },
  });
}

async function serve(config: string, logFile: string): Promise<{ process: RunningProcess; url: string }> {
  const argv = [process.execPath, MAIN, 'serve', '--config', config];
  const started = await startProcess({ argv, logFile, graceMs: 40_000 });
  const [, url = ''] = await started.line(/ready, API at (http:\S+)/, 60_000);
  return { process: started, url };
}

type Post = (path: string, body: object | Buffer) => Promise<{ id: string; key: string }>;

/** Racks full of machines, what can be ordered, and tenants for an order each; returns their keys. */
async function describe(made: Post, machines: number): Promise<string[]> {
  const { id: region } = await made('/regions', { name: 'west' });
  await made('/subnets', {
    ...{ region, role: 'both', cidr: '10.64.0.0/16' },
    reservations: { first: '10.64.1.0', last: '10.64.127.255' },
    servers: { first: '10.64.128.0', last: '10.64.254.255' },
  });
  await made('/flavors', { name: 'small', cores: 2, memoryMib: 1024, diskGib: 10, nics: 'same' });
  const image = zstdCompressSync(tinyDisk());
  const sha256 = createHash('sha256').update(image).digest('hex');
  const query = new URLSearchParams({ name: 'empty', version: '1', sha256, kernelArgs: 'quiet' });
  await made(`/images?${query.toString()}`, image);
  let rack = '';
  const all = Array.from({ length: machines }, (_, index) => index);
  for (let first = 0; first < machines; first += MACHINES_PER_RACK) {
    rack = (await made('/racks', { name: `r${first / MACHINES_PER_RACK}`, region })).id;
    await inTurns(all.slice(first, first + MACHINES_PER_RACK), 8, (index) => made('/machines', machine(index, rack)));
  }
  const tenants = Array.from({ length: Math.ceil(machines / SERVERS_PER_TENANT) }, (_, index) => `tenant-${index}`);
  return inTurns(tenants, 8, async (name) => {
    const { id: tenant } = await made('/tenants', { name });
    return (await made('/api-keys', { name, tenant })).key;
  });
}

/** Its BMC is at a port where nobody listens. */
function machine(index: number, rack: string) {
  const bmc = { address: '127.0.0.1', port: 10_000 + index, username: 'admin', password: 'nobody-asks' };
  const mac = `52:54:00:00:${byte(index >> 8)}:${byte(index & 0xff)}`;
  return { name: `m${index}`, rack, bmc, nics: [{ mac, role: 'both' }] };
}

function byte(value: number): string {
  return value.toString(16).padStart(2, '0');
}

/** What inspections would have written, had these machines been there. */
async function inspectAll(url: string): Promise<void> {
  const store = await openStore({ url, clock: systemClock, log: silentLog });
  try {
    await store.transaction(async (tx) => {
      const ended = { ended_at: systemClock.now() };
      await tx.updateTable('boot_orders').set({ state: 'revoked' }).execute();
      await tx.updateTable('boot_sessions').set(ended).where('ended_at', 'is', null).execute();
      const undone = { state: 'undone', wake_at: null, owner: null } as const;
      await tx.updateTable('sagas').set(undone).where('state', '=', 'running').execute();
      await tx
        .insertInto('machine_disks')
        .columns(['machine_id', 'name', 'bytes', 'type', 'serial', 'model'])
        .expression((eb) =>
          eb
            .selectFrom('machines')
            .select((own) => [
              'id',
              own.val('sda').as('name'),
              own.val(500e9).as('bytes'),
              own.val('ssd').as('type'),
              own.val('1').as('serial'),
              own.val('disk').as('model'),
            ]),
        )
        .execute();
      const inspected = { state: 'available', cores: 4, memory_mib: 8_192 } as const;
      await tx.updateTable('machines').set(inspected).execute();
    });
  } finally {
    await store.close();
  }
}

async function post(
  url: string,
  key: string,
  path: string,
  body: object | Buffer,
): Promise<{ id: string; key: string }> {
  const isImage = Buffer.isBuffer(body);
  const answer = await fetch(`${url}/api/v1${path}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${key}`,
      'content-type': isImage ? 'application/zstd' : 'application/json',
    },
    body: isImage ? new Uint8Array(body) : JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`POST ${path}: ${answer.status} ${text}`);
  return JSON.parse(text) as { id: string; key: string };
}
