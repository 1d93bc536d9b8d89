import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createHash, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { run } from '../process/run.ts';
import { bmcAnswers } from './ipmi-probe.ts';

/** One software BMC: Debian's `ipmi_sim` (package openipmi), which speaks RMCP+ with cipher suite 3, not 17. */
export interface IpmiSimOptions {
  /** Absolute; made when missing. Holds the configuration, the state and the log of this BMC. */
  directory: string;
  /** Letters, digits and hyphens; names the files, and the GUID the BMC tells is derived from it. */
  name: string;
  /** IPv4 address of this machine, or of `netns`. */
  address: string;
  /** UDP port; real BMCs listen on 623. 0 picks one that nobody has. */
  port: number;
  /** At most 16 bytes, without quotes. */
  username: string;
  /** At most 20 bytes (IPMI 2.0 §22.30), without quotes. */
  password: string;
  /**
   * Without it the machine is off for ever, and questions are answered from memory.
   * Absolute command line that is the machine, run through a shell as `CMD get power` (prints `power:0` or `power:1`),
   * `CMD get boot` (`boot:none|pxe|default`), `CMD set power 0|1`, `CMD set reset 1`, `CMD set boot none|pxe|default`
   * (`default` is the disk). The BMC answers nobody meanwhile: past about 1 s clients repeat the command and it runs
   * twice. Each `set boot` is preceded by a `get boot`.
   */
  chassisControl?: string;
  /** The serial console: the BMC connects to this TCP port on 127.0.0.1 for serial-over-LAN. */
  serialTcpPort?: number;
  /** Name of an existing network namespace to run in. */
  netns?: string;
}

export interface IpmiSim {
  readonly pid: number;
  readonly port: number;
  /** Ends the BMC and waits until it is gone; stopping twice is the same as once. */
  stop(): Promise<void>;
}

/** Starts a BMC and resolves when it answers on its UDP port; rejects with what it said when it does not. */
export async function startIpmiSim(asked: IpmiSimOptions): Promise<IpmiSim> {
  const options = { ...asked, port: await unsharedPort(asked) };
  const files = await writeFiles(options);
  const { child, ended } = await launch(options, files);
  try {
    if (child.pid === undefined) throw new Error('ipmi_sim cannot be started: install openipmi');
    if (!(await answering(options, ended))) throw new Error('no answer on its UDP port');
    return { pid: child.pid, port: options.port, stop: () => end(child, ended) };
  } catch (cause) {
    await end(child, ended);
    const said = await readFile(files.log, 'utf8');
    throw new Error(`BMC ${options.name} did not start: ${String(cause)} ${said.trim()}`, { cause });
  }
}

interface SimFiles {
  configuration: string;
  emulation: string;
  state: string;
  log: string;
}

async function writeFiles(options: IpmiSimOptions): Promise<SimFiles> {
  refuseUnquotable(options);
  const file = (suffix: string) => join(options.directory, `${options.name}.${suffix}`);
  const files = { configuration: file('conf'), emulation: file('emu'), state: file('state'), log: file('log') };
  // What a BMC keeps across restarts (users, LAN settings) would win over the configuration we are about to write.
  await rm(files.state, { recursive: true, force: true });
  await mkdir(files.state, { recursive: true });
  await writeFile(files.configuration, configuration(options), { mode: 0o600 });
  await writeFile(files.emulation, emulation);
  return files;
}

function refuseUnquotable({ name, username, password, chassisControl }: IpmiSimOptions): void {
  if (!/^[A-Za-z0-9-]+$/.test(name)) throw new Error(`BMC name ${name}: letters, digits and hyphens only`);
  for (const text of [username, password, chassisControl ?? '']) {
    if (/["\\\n]/.test(text)) throw new Error(`BMC ${name}: ipmi_sim cannot quote quotes, backslashes or newlines`);
  }
  if (chassisControl?.startsWith('/') === false)
    throw new Error(`BMC ${name}: chassisControl must be an absolute command`);
}

function configuration(options: IpmiSimOptions): string {
  const guid = createHash('sha256').update(options.name).digest('hex').slice(0, 32);
  return [
    `name "${options.name}"`,
    'set_working_mc 0x20',
    'startlan 1',
    `addr ${options.address} ${options.port}`,
    'priv_limit admin',
    'allowed_auths_admin none md2 md5 straight',
    `guid ${guid}`,
    'endlan',
    ...(options.chassisControl === undefined ? [] : [`chassis_control "${options.chassisControl}"`]),
    ...(options.serialTcpPort === undefined ? [] : [`sol "tcp:127.0.0.1:${options.serialTcpPort}" 115200`]),
    `user 2 true "${options.username}" "${options.password}" admin 10 none md2 md5 straight`,
    '',
  ].join('\n');
}

// One management controller without sensors, with an event log of 100 entries; device id, revision, firmware 9.8, manufacturer 0x1291, product 0x0f02.
const emulation = [
  'mc_setbmc 0x20',
  'mc_add 0x20 0 no-device-sdrs 0x27 9 8 0x9f 0x1291 0xf02 persist_sdr',
  'sel_enable 0x20 100 0x02',
  'mc_enable 0x20',
  '',
].join('\n');

interface Running {
  child: ChildProcess;
  ended: Promise<void>;
}

async function launch({ netns }: IpmiSimOptions, files: SimFiles): Promise<Running> {
  const command = ['ipmi_sim', '-c', files.configuration, '-f', files.emulation, '-s', files.state, '-n'];
  const [program = '', ...args] = inside(netns, command);
  const log = await open(files.log, 'w');
  try {
    const child = spawn(program, args, { stdio: ['ignore', log.fd, log.fd] });
    const ended = new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
      child.once('error', () => resolve()); // no such program
    });
    return { child, ended };
  } finally {
    await log.close();
  }
}

async function answering(options: IpmiSimOptions, ended: Promise<void>): Promise<boolean> {
  const { netns, address, port } = options;
  if (netns === undefined) return bmcAnswers(address, port, ended);
  const command = [process.execPath, join(import.meta.dirname, 'ipmi-probe.ts'), address, String(port)];
  const [program = '', ...args] = inside(netns, command);
  const probe = spawn(program, args, { stdio: 'ignore' });
  void ended.then(() => probe.kill('SIGKILL'));
  const [code] = (await once(probe, 'exit')) as [number | null];
  return code === 0;
}

// ipmi_sim asks for SO_REUSEADDR, with which Linux lets a second BMC bind the same address and take the answers of both.
async function unsharedPort({ netns, address, port }: IpmiSimOptions): Promise<number> {
  const table = netns === undefined ? await readFile('/proc/net/udp', 'utf8') : await socketsIn(netns);
  const bound = table.split('\n').map((line) => line.trim().split(/\s+/)[1]?.toLowerCase());
  const host = Buffer.from(address.split('.').map(Number)).reverse().toString('hex');
  const isBound = (one: number) => bound.includes(`${host}:${hex16(one)}`);
  if (port === 0) {
    const free = Array.from({ length: 100 }, () => randomInt(...PORTS)).find((one) => !isBound(one));
    if (free === undefined) throw new Error(`${address} has no free port`);
    return free;
  }
  if (isBound(port)) throw new Error(`${address}:${port} is in use`);
  return port;
}

// Below those that the kernel gives to who asks for any, which may have one between two starts of a BMC.
const PORTS = [10_000, 30_000] as const;

function socketsIn(netns: string): Promise<string> {
  return run(inside(netns, ['cat', '/proc/net/udp']));
}

function hex16(value: number): string {
  return value.toString(16).padStart(4, '0');
}

function inside(netns: string | undefined, command: readonly string[]): string[] {
  return netns === undefined ? [...command] : ['ip', 'netns', 'exec', netns, ...command];
}

async function end(child: ChildProcess, ended: Promise<void>): Promise<void> {
  // It has nothing to save that we would want, and heeds no SIGTERM while it waits for its chassis program.
  child.kill('SIGKILL');
  await ended;
}
