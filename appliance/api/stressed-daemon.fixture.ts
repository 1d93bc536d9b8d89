import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import type { Test } from 'tap';

import { tinyDisk } from '../../lab/disk/tiny-disk.ts';
import { run } from '../../lab/process/run.ts';
import type { RunningProcess } from '../../lab/process/start.ts';
import { startProcess } from '../../lab/process/start.ts';
import { until } from '../../lab/process/until.ts';
import { SSH_KEY } from './api.fixture.ts';

export interface Reply {
  readonly status: number;
  /** The error's stable code; undefined for what is no error. */
  readonly code: string | undefined;
  readonly retryAfter: string | null;
  readonly body: unknown;
}

export interface Step {
  readonly status: string;
  readonly attempts: number;
  readonly reason: { readonly code: string } | null;
}

export interface StressedOptions {
  /** A postgres:// URL; SQLite unless told. */
  readonly store?: string;
  /** Puts its state on a file system of its own with so many MiB, which goes with the process. Needs root. */
  readonly diskMib?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** More of the configuration. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** Clusters beside `cloud`: how long what creates takes there, in milliseconds, and what share of it fails how. */
  readonly clusters?: Readonly<
    Record<string, { readonly create?: number; readonly fails?: Readonly<Record<string, number>> }>
  >;
}

// More than one: a tenant has five requests in flight at most.
const TENANTS = 3;

/**
 * The daemon as a process of its own, whose database is made to suffer, with a simulated cluster that makes a server within
 * half a second: orders go their whole way, and what they take is written down by the same store.
 */
export class StressedDaemon {
  readonly state: string;
  readonly #launch: () => Promise<RunningProcess>;
  readonly #config: string;
  readonly #hasMount: boolean;
  #process: RunningProcess;
  #url: string;
  readonly #operator: string;
  #members: string[] = [];
  #ordered = 0;

  private constructor(process: RunningProcess, { launch, config, state, url, hasMount }: Where) {
    this.#process = process;
    this.#launch = launch;
    this.state = state;
    this.#config = config;
    this.#hasMount = hasMount;
    this.#url = url;
    this.#operator = readFileSync(join(state, 'operator.key'), 'utf8').trim();
  }

  static async start(t: Test, options: StressedOptions = {}): Promise<StressedDaemon> {
    const { diskMib, env = {} } = options;
    const directory = mkdtempSync(join(tmpdir(), 'rs-stress-'));
    const state = join(directory, 'state');
    mkdirSync(state, { mode: 0o700 });
    const config = join(directory, 'rackstart.yaml');
    writeFileSync(config, configuration(options));
    const serve = [process.execPath, MAIN, 'serve', '--config', config];
    const mounted = `mount -t tmpfs -o size=${String(diskMib)}m,mode=700 tmpfs "$1" && shift && exec "$@"`;
    t.teardown(() => rmSync(directory, { recursive: true }));
    const launch = async () => {
      const launched = await startProcess({
        argv: diskMib === undefined ? serve : ['unshare', '--mount', 'sh', '-c', mounted, 'sh', state, ...serve],
        logFile: join(directory, 'log'),
        env,
        graceMs: 40_000,
      });
      t.teardown(() => launched.stop());
      return launched;
    };
    const daemon = await launch();
    const url = await urlOf(daemon);
    // The mount is seen by the daemon alone, and by who looks through its eyes.
    const seen = diskMib === undefined ? state : `/proc/${String(daemon.pid)}/root${state}`;
    const stressed = new StressedDaemon(daemon, { launch, config, state: seen, url, hasMount: diskMib !== undefined });
    await stressed.#describe();
    return stressed;
  }

  /** As the operator, unless another key is named. */
  async call(method: string, path: string, body?: object, key = this.#operator): Promise<Reply> {
    const response = await fetch(`${this.#url}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${key}`, ...(body && { 'content-type': 'application/json' }) },
      ...(body && { body: JSON.stringify(body) }),
    });
    return replyOf(response);
  }

  /** Orders so many servers at once, in turn for each tenant; at `cloud` unless told. */
  order(count: number, cluster = 'cloud'): Promise<Reply[]> {
    return Promise.all(
      Array.from({ length: count }, () => {
        const number = (this.#ordered += 1);
        const shape = { region: 'west', flavor: 'small', image: 'debian', sshKeys: [SSH_KEY] };
        const order = { ...shape, provider: 'simulation', cluster };
        const key = this.#members[number % TENANTS];
        return this.call('POST', '/servers', { hostname: `web-${String(number)}`, ...order }, key);
      }),
    );
  }

  /** An image, compressed: `kib` of what does not shrink. */
  async addImage(version: string, kib: number): Promise<Reply> {
    const bytes = zstdCompressSync(tinyDisk(kib * 1024, noise(kib * 1024)));
    const query = { name: 'debian', version, rootPartition: '1', kernelArgs: 'quiet', sha256: sha256(bytes) };
    const response = await fetch(`${this.#url}/api/v1/images?${new URLSearchParams(query).toString()}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.#operator}`, 'content-type': 'application/zstd' },
      body: bytes,
    });
    return replyOf(response);
  }

  /** The states of all requests. */
  async states(): Promise<Map<string, string>> {
    const { body } = await this.call('GET', '/servers?limit=1000');
    return new Map((body as { servers: { id: string; state: string }[] }).servers.map(({ id, state }) => [id, state]));
  }

  /** The steps of a request, by their names. */
  async steps(id: string): Promise<Readonly<Record<string, Step>>> {
    const { body } = await this.call('GET', `/servers/${id}`);
    const { steps } = body as { steps: (Step & { name: string })[] };
    return Object.fromEntries(steps.map((step) => [step.name, step]));
  }

  /** Until every one of these is in one of those states. */
  async untilAll(ids: readonly string[], states: readonly string[], withinMs = 15_000): Promise<void> {
    await until(`${String(ids.length)} requests are ${states.join(' or ')}`, withinMs, async () => {
      const now = await this.states().catch(() => new Map<string, string>());
      return ids.every((id) => states.includes(now.get(id) ?? '')) || null;
    });
  }

  /** What `rackstart doctor` says beside the running daemon; rejects when it finds something. */
  doctor(): Promise<string> {
    const beside = this.#hasMount ? ['nsenter', `--mount=/proc/${String(this.#process.pid)}/ns/mnt`] : [];
    return run([...beside, process.execPath, MAIN, 'doctor', '--config', this.#config]);
  }

  /** The positions of all events, in the order of the log. */
  async positions(): Promise<number[]> {
    const positions: number[] = [];
    for (;;) {
      const { body } = await this.call('GET', `/events?after=${String(positions.at(-1) ?? 0)}&limit=1000`);
      const { events } = body as { events: { position: number }[] };
      if (events.length === 0) return positions;
      positions.push(...events.map(({ position }) => position));
    }
  }

  /** Lines logged so far. */
  logged(): string[] {
    return this.#process.log().trimEnd().split('\n');
  }

  /** Its resident memory. */
  residentMib(): number {
    const status = readFileSync(`/proc/${String(this.#process.pid)}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
  }

  /**
   * From now on each sync of its disk takes so long, until `end` is called: strace holds the thread that syncs, and no other.
   * `synced` counts them.
   */
  async slowDisk(t: Test, milliseconds: number): Promise<{ synced: () => number; end: () => Promise<unknown> }> {
    const calls = 'fsync,fdatasync';
    const injected = `inject=${calls}:delay_exit=${String(milliseconds * 1_000)}`;
    const strace = await startProcess({
      argv: ['strace', '-f', '-p', String(this.#process.pid), '-e', `trace=${calls}`, '-e', injected],
      logFile: `${this.#config}.strace`,
      stopSignal: 'SIGINT',
    });
    t.teardown(() => strace.stop());
    await strace.line(/attached/, 10_000);
    return { synced: () => strace.log().split('(DELAYED)').length - 1, end: () => strace.stop() };
  }

  /** Its exit code, asked to end; 128 and more when it ended before. */
  async stop(): Promise<number | null> {
    return (await this.#process.stop()).code;
  }

  /** One that ended starts again, on what there is. */
  async resume(): Promise<void> {
    this.#process = await this.#launch();
    this.#url = await urlOf(this.#process);
  }

  async #describe(): Promise<void> {
    const made = async (path: string, body: object) => {
      const reply = await this.call('POST', path, body);
      if (reply.status !== 201) throw new Error(`${path}: ${JSON.stringify(reply.body)}`);
      return reply.body as { id: string; key: string };
    };
    await made('/regions', { name: 'west' });
    await made('/flavors', { name: 'small', cores: 2, memoryMib: 1024, diskGib: 10, nics: 'same' });
    for (let number = 1; number <= TENANTS; number += 1) {
      const { id: tenant } = await made('/tenants', { name: `tenant-${String(number)}` });
      this.#members.push((await made('/api-keys', { name: 'ci', tenant })).key);
    }
    const image = await this.addImage('12', 64);
    if (image.status !== 201) throw new Error(JSON.stringify(image.body));
  }
}

interface Where {
  readonly launch: () => Promise<RunningProcess>;
  readonly config: string;
  readonly state: string;
  readonly url: string;
  readonly hasMount: boolean;
}

const MAIN = join(import.meta.dirname, '../main.ts');

async function urlOf(daemon: RunningProcess): Promise<string> {
  const [, url = ''] = await daemon.line(/ready, API at (http:\S+)/, 40_000);
  return url;
}

function configuration({ store, settings = {}, clusters = {} }: StressedOptions): string {
  const delay = (least: number, most: number) => ({ least, usual: least, most });
  const delays = {
    ...{ create: delay(5, 20), start: delay(100, 400), find: delay(1, 5), delete: delay(5, 20), probe: delay(1, 5) },
  };
  const others = Object.entries(clusters).map(([name, { create = 5, fails = {} }]) => {
    const slow = { ...delays, create: delay(create, create) };
    return { name, shape: 'openstack', delays: slow, failureRates: { create: fails } };
  });
  // JSON is YAML.
  return JSON.stringify({
    ...{ state: 'state', ramdisk: 'none', provisioning: [], ...(store !== undefined && { store }) },
    api: { port: 0, rateLimit: { perSecond: 10_000, burst: 10_000 } },
    simulation: { clusters: [{ name: 'cloud', shape: 'openstack', delays }, ...others] },
    ...settings,
  });
}

async function replyOf(response: Response): Promise<Reply> {
  const text = await response.text();
  const body = text === '' ? undefined : (JSON.parse(text) as { error?: { code: string } });
  const { status, headers } = response;
  return { status, code: body?.error?.code, retryAfter: headers.get('retry-after'), body };
}

/** What does not shrink, the same at each run. */
function noise(bytes: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(bytes / 32) }, (_, index) => {
    return createHash('sha256').update(String(index)).digest();
  });
  return Buffer.concat(blocks).subarray(0, bytes);
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Orders and looks at servers for so long, without a pause, as ten callers. */
export async function keepAsking(daemon: StressedDaemon, milliseconds: number) {
  const [writes, reads]: [Reply[], Reply[]] = [[], []];
  const since = performance.now();
  const caller = async () => {
    while (performance.now() < since + milliseconds) {
      writes.push(...(await daemon.order(1)));
      reads.push(await daemon.call('GET', '/tenants'));
    }
  };
  await Promise.all(Array.from({ length: 10 }, caller));
  return { writes, reads, seconds: (performance.now() - since) / 1_000 };
}

/** How often each answer was given. */
export function tally(replies: readonly Reply[]): Map<string, number> {
  const named = ({ status, code, retryAfter }: Reply) =>
    [String(status), code, retryAfter && `retry-after ${retryAfter}`].filter(Boolean).join(' ');
  return new Map([...Map.groupBy(replies, named)].map(([name, those]) => [name, those.length]));
}
