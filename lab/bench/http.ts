import { rmSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import { ChunkDirectory } from '../../images/chunk-directory.ts';
import { freeze } from '../../images/freeze.ts';
import { onAbruptEnd } from '../process/abrupt-end.ts';
import { run } from '../process/run.ts';
import { startProcess } from '../process/start.ts';
import { startDaemon } from '../site/daemon.ts';
import { cpuSeconds } from './daemon-cost.ts';
import { DEVICE, openLink, SERVER } from './dhcp-peers.ts';
import type { Link } from './dhcp-peers.ts';
import { lessIsBetter, median, moreIsBetter } from './report.ts';
import type { Bench, Row } from './report.ts';
import { full, writeRawDisk } from './write-image.ts';

/**
 * Chunks of an image as machines fetch them, by curl with connections that are kept, from the daemon and from nginx: each has all
 * of them in memory. curl takes less of the processor than the servers do; all of it goes over loopback.
 *
 * HTTP_MIB (3072) is the size of the disk that is frozen, a third of which are its chunks; HTTP_ROUNDS (5) how often each is run.
 */
export const bench: Bench = {
  name: 'http',
  about: '1 GiB of chunks to 1, 16 and 200 clients: bytes/s and CPU per GiB; beside nginx with sendfile',
  definitions: [
    'client: a connection of curl that asks for one chunk after the other; server and clients share the processors',
    'CPU: of the server alone; what the kernel does for it while a client runs is not in it, on loopback most of what sendfile saves',
  ],

  async run(say) {
    const directory = await mkdtemp(join(tmpdir(), 'rs-bench-http-'));
    const memory = await mkdtemp('/dev/shm/rs-bench-http-');
    const remove = () => [directory, memory].forEach((path) => rmSync(path, { recursive: true, force: true }));
    const cancel = onAbruptEnd(remove);
    const link = await openLink('http', directory);
    const servers: Server[] = [];
    try {
      const chunks = await frozenChunks(directory);
      for (const address of CLIENT_ADDRESSES) {
        await run(link.atServer(['ip', 'address', 'add', `${address}/32`, 'dev', 'lo']));
      }
      servers.push(await startOurs(link), await startNginx(link, memory, chunks));
      const rows: Row[] = [];
      for (const clients of [1, 16, 200]) rows.push(...(await compared({ link, servers, chunks, clients }, say)));
      return rows;
    } finally {
      await Promise.all(servers.map((server) => server.stop()));
      link.close();
      remove();
      cancel();
    }
  },
};

const GIB = 1024 ** 3;
const MIB_OF_DISK = Number(process.env['HTTP_MIB'] ?? 3072);
const ROUNDS = Number(process.env['HTTP_ROUNDS'] ?? 5);
/** How often each chunk is fetched in a run, so that a run takes a second and more. */
const TIMES = 3;

interface Server {
  readonly name: string;
  readonly url: string;
  /** Of what does the work. */
  readonly pids: readonly number[];
  readonly stop: () => Promise<unknown>;
}

interface Chunk {
  readonly sha256: string;
  readonly bytes: number;
  readonly file: string;
}

/** In the daemon's own image directory. */
async function frozenChunks(directory: string): Promise<Chunk[]> {
  const raw = join(directory, 'raw');
  await writeRawDisk(raw, MIB_OF_DISK, full);
  const store = new ChunkDirectory(join(directory, 'appliance/state/images'));
  const options = { directory: store, clock: systemClock, ids: createIds(systemClock), signal: AbortSignal.any([]) };
  const { map } = await freeze(raw, options);
  await rm(raw);
  return map.segments.flatMap((segment) =>
    segment.kind === 'zeros'
      ? []
      : [{ sha256: segment.sha256, bytes: segment.length, file: store.chunkFile(segment.sha256) }],
  );
}

async function startOurs({ directory, atServer }: Link): Promise<Server> {
  // Nobody boots them.
  for (const file of ['vmlinuz', 'initrd']) await writeFile(join(directory, file), file);
  const applianceAddress = { ipv4: `${SERVER}/24`, ipv6: 'fd77::1/64' } as const;
  const place = { exec: atServer, bridge: DEVICE, applianceAddress } as const;
  const settings = [`images: { residentBytes: ${2 * GIB} }`];
  const daemon = await startDaemon(place, join(directory, 'appliance'), join(directory, 'vmlinuz'), settings);
  return { name: 'ours', url: `http://${SERVER}:8080/chunk`, pids: [daemon.pid], stop: () => daemon.stop() };
}

async function startNginx({ atServer }: Link, memory: string, chunks: readonly Chunk[]): Promise<Server> {
  const files = join(memory, 'files/chunk');
  await mkdir(files, { recursive: true });
  for (const { sha256, file } of chunks) await copyFile(file, join(files, sha256));
  const argv = ['nginx', '-p', memory, '-e', 'stderr', '-c', join(import.meta.dirname, 'nginx.conf')];
  const nginx = await startProcess({ argv: atServer(argv), logFile: join(memory, 'log') });
  const url = `http://${SERVER}:9080/chunk`;
  await run(
    atServer(['curl', '-sf', '--retry', '20', '--retry-connrefused', '-o', '/dev/null', `${url}/${chunks[0]!.sha256}`]),
  );
  const children = await readFile(`/proc/${nginx.pid}/task/${nginx.pid}/children`, 'utf8');
  return { name: 'nginx sendfile', url, pids: children.trim().split(' ').map(Number), stop: () => nginx.stop() };
}

interface Case {
  readonly link: Link;
  readonly servers: readonly Server[];
  readonly chunks: readonly Chunk[];
  readonly clients: number;
}

/** By turns: load and luck hit both alike. The first run of each warms it up. */
async function compared(one: Case, say: (line: string) => void): Promise<Row[]> {
  const { servers, clients } = one;
  const runs = new Map(servers.map(({ name }) => [name, [] as Taken[]]));
  for (let round = 0; round <= ROUNDS; round++) {
    for (const server of servers) {
      const taken = await fetchAll(server, one);
      if (round > 0) runs.get(server.name)?.push(taken);
    }
  }
  const of = (name: string, what: keyof Taken) => median((runs.get(name) ?? []).map((taken) => taken[what]));
  for (const { name } of servers) {
    const spread = (runs.get(name) ?? []).map(({ rate }) => (rate / 1e9).toFixed(2)).join(', ');
    say(
      `${clients} clients: ${name} ${spread} GB/s; ${of(name, 'cpu').toFixed(3)} CPU s/GiB, curl ${of(name, 'client').toFixed(3)}`,
    );
  }
  const [ours, ...peers] = servers.map(({ name }) => name);
  const title = `${clients} client${clients === 1 ? '' : 's'}`;
  return peers.flatMap((peerName) => {
    const figures = (what: 'rate' | 'cpu', unit: number) => ({
      ...{ ours: of(ours!, what) / unit, peer: of(peerName, what) / unit, peerName },
    });
    return [
      moreIsBetter({ case: title, unit: 'GB/s', ...figures('rate', 1e9), aim: clients === 1 ? 2 : 1 }),
      // From a process's memory into the kernel's is a copy that sendfile does not make.
      lessIsBetter({ case: title, unit: 'CPU s/GiB', ...figures('cpu', 1), aim: 0.5 }),
    ];
  });
}

interface Taken {
  /** Bytes a second. */
  readonly rate: number;
  /** Processor seconds a GiB: of the server, and of curl. */
  readonly cpu: number;
  readonly client: number;
}

/** Several processes: the daemon takes 64 connections of an address. */
async function fetchAll({ url, pids }: Server, { link, chunks, clients }: Case): Promise<Taken> {
  const processes = Math.ceil(clients / CLIENTS_A_PROCESS);
  const asked = Array.from({ length: TIMES }, () => chunks).flat();
  const fetching = CLIENT_ADDRESSES.slice(0, processes).map((address, index) => {
    const urls = asked.filter((_, number) => number % processes === index).map(({ sha256 }) => `${url}/${sha256}`);
    return () => curl(link, urls, { address, parallel: clients / processes });
  });
  const cpuBefore = await cpuOf(pids);
  const began = performance.now();
  const fetched = await Promise.all(fetching.map((fetch) => fetch()));
  const seconds = (performance.now() - began) / 1_000;
  const cpu = (await cpuOf(pids)) - cpuBefore;
  const sum = (what: keyof Fetched) => fetched.reduce((all, each) => all + each[what], 0);
  const bytes = sum('bytes');
  const expected = asked.reduce((all, chunk) => all + chunk.bytes, 0);
  if (bytes !== expected) throw new Error(`of ${expected} bytes ${bytes} came from ${url}`);
  const gib = bytes / GIB;
  return { rate: bytes / seconds, cpu: cpu / gib, client: sum('cpu') / gib };
}

const CLIENTS_A_PROCESS = 50;
const CLIENT_ADDRESSES = ['10.77.0.4', '10.77.0.5', '10.77.0.6', '10.77.0.7'] as const;

interface Fetched {
  readonly bytes: number;
  /** Processor seconds. */
  readonly cpu: number;
}

async function curl(
  { atServer }: Link,
  urls: readonly string[],
  { address, parallel }: { address: string; parallel: number },
): Promise<Fetched> {
  const atOnce = parallel === 1 ? [] : ['--parallel', '--parallel-max', String(parallel)];
  const quiet = ['--silent', '--fail', '--no-progress-meter', '--write-out', '%{size_download}\\n'];
  const argv = ['curl', '--interface', address, ...atOnce, ...quiet, '--config', '-'];
  const input = urls.map((url) => `url = "${url}"\noutput = "/dev/null"\n`).join('');
  const said = await run(atServer(['sh', '-c', '"$@" && times', 'sh', ...argv]), { input, withinMs: 120_000 });
  const lines = said.trim().split('\n');
  const bytes = lines.slice(0, -2).reduce((all, line) => all + Number(line), 0);
  // The second line of `times` is about those it has waited for: `0m1.250s 0m0.310s`.
  const times = [...(lines.at(-1) ?? '').matchAll(/(\d+)m([\d.]+)s/g)];
  return { bytes, cpu: times.reduce((all, [, minutes, rest]) => all + 60 * Number(minutes) + Number(rest), 0) };
}

async function cpuOf(pids: readonly number[]): Promise<number> {
  const each = await Promise.all(pids.map(cpuSeconds));
  return each.reduce((sum, seconds) => sum + seconds, 0);
}
