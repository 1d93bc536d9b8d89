import { randomBytes } from 'node:crypto';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';

import { startUdpProxy } from '../loss/udp-proxy.ts';
import { run } from '../process/run.ts';
import { startProcess } from '../process/start.ts';
import type { RunningProcess } from '../process/start.ts';
import { until } from '../process/until.ts';
import { fetchFile } from '../tftp/fetch.ts';
import type { TftpSource } from '../tftp/fetch.ts';
import { lessIsBetter, median } from './report.ts';
import type { Bench, Row } from './report.ts';

/**
 * Our TFTP server beside tftpd-hpa and dnsmasq, each a process of its own, all asked by one client, this process
 * (`lab/tftp/fetch.ts`: an RFC 7440 client; less work a packet than any of the servers has). The client has the
 * first core for itself and the servers the last: as on a rack, a block and its acknowledgement pass between processors.
 * Left to the scheduler, a pair that happens to share a core is twice as fast, and which pair does is luck.
 */
export const bench: Bench = {
  name: 'tftp',
  about:
    'loaders by TFTP: by block size and window, many at once, over a path that loses 2 %; beside tftpd-hpa and dnsmasq',

  async run(say) {
    const directory = await mkdtemp(join(tmpdir(), 'rs-bench-tftp-'));
    const servers: Server[] = [];
    const own = await coresOf(process.pid);
    try {
      await pin(process.pid, 0);
      servers.push(...(await startServers(directory)));
      return [
        ...(await byBlocks(servers, say)),
        ...(await manyAtOnce(servers, say)),
        ...(await overABadPath(servers, say)),
      ];
    } finally {
      await run(['taskset', '--all-tasks', '--pid', '--cpu-list', own, String(process.pid)]);
      await Promise.all(servers.map(({ process }) => process.stop()));
      await rm(directory, { recursive: true });
    }
  },
};

const MEBIBYTE = 1024 * 1024;
const FILES = {
  mebibyte: randomBytes(MEBIBYTE),
  quarter: randomBytes(MEBIBYTE / 4),
  /** As long as snponly.efi. */
  loader: randomBytes(173_792),
};
type FileName = keyof typeof FILES;

interface Server {
  readonly name: string;
  readonly address: string;
  readonly process: RunningProcess;
}

/** What one server did in one case, round after round. */
interface Runs {
  readonly server: Server;
  readonly ms: number[];
  windowSize: number;
}

async function byBlocks(servers: readonly Server[], say: Say): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [blockSize, windowSize] of [
    [512, 1],
    [1468, 1],
    [512, 16],
    [1468, 16],
  ] as const) {
    const title = `1 MiB, blksize ${blockSize}, windowsize ${windowSize}`;
    const runs = await takingTurns(servers, 15, (server) => fetchWhole(server, 'mebibyte', { blockSize, windowSize }));
    rows.push(...compared(title, windowSize, runs, say));
  }
  return rows;
}

const FETCHES = 200;
const AT_ONCE = 50;

async function manyAtOnce(servers: readonly Server[], say: Say): Promise<Row[]> {
  const runs = await takingTurns(servers, 5, async (server) => {
    let next = 0;
    const fetchOn = async () => {
      while (next < FETCHES) {
        // One machine has one address, and the rack is many.
        next += 1;
        await fetchWhole(server, 'loader', { blockSize: 1468, from: `127.70.0.${next}` });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, fetchOn));
    return 1;
  });
  return compared(`${FETCHES} loaders of 170 KiB, ${AT_ONCE} at a time, blksize 1468`, 1, runs, say);
}

/** Peers that know no windows are asked without, and once: each loss costs them a second or two. */
async function overABadPath(servers: readonly Server[], say: Say): Promise<Row[]> {
  const title = '256 KiB over 2 % loss, blksize 1468, windowsize';
  const [ours, ...peers] = await takingTurns(servers, 3, (server, round) => fetchBadly(server, 1, round));
  const [windows] = await takingTurns(servers.slice(0, 1), 3, (server, round) => fetchBadly(server, 16, round));
  if (ours === undefined || windows === undefined) return [];
  return [
    ...compared(`${title} 1`, 1, [ours, ...peers], say),
    ...compared(`${title} 16`, 16, [windows, ...peers], say),
  ];
}

/** Each round another misfortune, and every server the same. */
async function fetchBadly({ address }: Server, windowSize: number, seed: number): Promise<number> {
  const proxy = startUdpProxy({ server: { address, port: 69 }, rates: { lost: 0.02 }, seed });
  try {
    return await fetchWhole({ address: '127.0.0.1', port: proxy.port }, 'quarter', { blockSize: 1468, windowSize });
  } finally {
    await proxy.stop();
  }
}

/** Rejects when a file is not what was stored. Resolves with the window that was granted. */
async function fetchWhole(
  { address, port = 69 }: { address: string; port?: number },
  file: FileName,
  options: Pick<TftpSource, 'blockSize' | 'windowSize' | 'from'>,
): Promise<number> {
  const { data, windowSize } = await fetchFile({ address, port, file, ...options });
  if (!data.equals(FILES[file])) throw new Error(`${file} came wrong from ${address}`);
  return windowSize;
}

/** Load and luck hit all servers alike. */
async function takingTurns(
  servers: readonly Server[],
  rounds: number,
  fetch: (server: Server, round: number) => Promise<number>,
): Promise<Runs[]> {
  const runs = servers.map((server): Runs => ({ server, ms: [], windowSize: 1 }));
  for (let round = 1; round <= rounds; round++) {
    for (const each of runs) {
      const start = performance.now();
      each.windowSize = await fetch(each.server, round);
      each.ms.push(performance.now() - start);
    }
  }
  return runs;
}

function compared(title: string, asked: number, [ours, ...peers]: readonly Runs[], say: Say): Row[] {
  if (ours === undefined) return [];
  const figures = [ours, ...peers].map(({ server, ms }) => `${server.name} ${median(ms).toFixed(0)} ms`);
  say(`${title}: ${figures.join(', ')}`);
  return peers.map(({ server, ms, windowSize }) => {
    const peerName = windowSize < asked ? `${server.name}, at its windowsize ${windowSize}` : server.name;
    return lessIsBetter({ case: title, unit: 'ms', ours: median(ours.ms), peer: median(ms), peerName, aim: 1 });
  });
}

type Say = (line: string) => void;

async function startServers(directory: string): Promise<Server[]> {
  const root = join(directory, 'files');
  await mkdir(root);
  for (const [name, data] of Object.entries(FILES)) await writeFile(join(root, name), data);
  await chmod(directory, 0o755); // tftpd-hpa gives up its rights
  const serve = join(import.meta.dirname, '../tftp/serve.ts');
  const dnsmasq = ['dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--user=root', '--port=0'];
  const programs = {
    ours: (address: string) => [process.execPath, serve, address, root],
    'tftpd-hpa': (address: string) => ['in.tftpd', '--foreground', '--address', `${address}:69`, '--secure', root],
    dnsmasq: (address: string) => [
      ...dnsmasq,
      ...['--bind-interfaces', `--listen-address=${address}`, '--enable-tftp', `--tftp-root=${root}`, '--tftp-max=200'],
    ],
  };
  const started = Object.entries(programs).map(async ([name, command], index) => {
    const address = `127.69.0.${index + 1}`;
    const server = await startProcess({ argv: command(address), logFile: join(directory, `${name}.log`) });
    await pin(server.pid, cpus().length - 1);
    const answers = () => fetchFile({ address, port: 69, file: 'loader' }).catch(() => undefined);
    await until(`${name} to serve`, 20_000, answers);
    return { name, address, process: server };
  });
  return Promise.all(started);
}

async function pin(pid: number, core: number): Promise<void> {
  await run(['taskset', '--all-tasks', '--pid', '--cpu-list', String(core), String(pid)]);
}

async function coresOf(pid: number): Promise<string> {
  return (await run(['taskset', '--pid', '--cpu-list', String(pid)])).trim().replace(/.*: /, '');
}
