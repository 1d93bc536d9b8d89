import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import type { RunningProcess } from '../process/start.ts';
import { startProcess } from '../process/start.ts';
import { until } from '../process/until.ts';
import type { Rack } from '../rack/rack.ts';
import { ApiClient } from './api-client.ts';

const main = join(import.meta.dirname, '../../appliance/main.ts');

/** The appliance inside a rack's network, as its own process; it may be killed and started again on the same state. */
export interface Daemon {
  /** Operator's rights. */
  readonly api: ApiClient;
  readonly configFile: string;
  readonly logFile: string;
  /** Of the process that runs now. */
  readonly pid: number;
  /** SIGKILL, at once: what it had not committed is lost. */
  kill(): Promise<void>;
  /** Starts it again on the same state; resolves when its API answers. */
  start(): Promise<void>;
  /** Ends it in order. */
  stop(): Promise<void>;
}

const API_PORT = 7770;

// As the service's unit has it.
const HEAP = '--max-semi-space-size=8';

/** What the appliance needs of a rack: its network, its NIC in it, and its addresses there. */
export type DaemonPlace = Pick<Rack, 'exec' | 'bridge' | 'applianceAddress'>;

/** Starts the appliance on `rack`, its state in `directory`, `settings` behind its configuration; resolves when its API answers. */
export async function startDaemon(
  rack: DaemonPlace,
  directory: string,
  ramdiskKernel: string,
  settings: readonly string[] = [],
): Promise<Daemon> {
  await mkdir(directory, { recursive: true });
  const configFile = join(directory, 'rackstart.yaml');
  const logFile = join(directory, 'daemon.log');
  const socketPath = join(directory, 'api.sock');
  writeFileSync(configFile, [config(directory, dirname(ramdiskKernel), rack), ...settings, ''].join('\n'));

  let daemon: RunningProcess | undefined;
  const start = async () => {
    daemon = await startProcess({
      argv: rack.exec([process.execPath, main, 'serve', '--config', configFile]),
      logFile,
      env: { NODE_OPTIONS: HEAP },
      graceMs: 40_000,
    });
    await daemon.line(/rackstart: ready/, 30_000);
  };
  await start();
  // Sockets in the file system belong to no network: this is how the outside reaches an API that listens inside. With socat's
  // own backlog of 5 it refuses callers that come together.
  const bridge = await startProcess({
    argv: rack.exec(['socat', `UNIX-LISTEN:${socketPath},fork,backlog=128`, `TCP:127.0.0.1:${String(API_PORT)}`]),
    logFile: join(directory, 'api-bridge.log'),
  });
  await until('the API bridge', 5_000, () => existsSync(socketPath));
  const key = readFileSync(join(directory, 'state/operator.key'), 'utf8').trim();

  return {
    api: new ApiClient(socketPath, key),
    configFile,
    logFile,
    start,
    get pid() {
      return daemon!.pid;
    },
    async kill() {
      if (daemon === undefined) return;
      process.kill(daemon.pid, 'SIGKILL');
      await daemon.ended;
    },
    async stop() {
      await daemon?.stop();
      await bridge.stop();
    },
  };
}

function config(directory: string, ramdisk: string, rack: DaemonPlace): string {
  const [address = ''] = rack.applianceAddress.ipv4.split('/');
  return [
    `state: ${join(directory, 'state')}`,
    `ramdisk: ${ramdisk}`,
    `api: { host: 127.0.0.1, port: ${String(API_PORT)} }`,
    'provisioning:',
    `  - device: ${rack.bridge}`,
    `    address: ${address}`,
    `    prefix6: ${rack.applianceAddress.ipv6.replace(/::1\//, '::/')}`,
    '',
  ].join('\n');
}
