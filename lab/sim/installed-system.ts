import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { text } from 'node:stream/consumers';

import ssh2 from 'ssh2';
import { extract } from 'tar-stream';

import { SECOND } from '../../appliance/kernel/clock.ts';
import type { Ids } from '../../appliance/kernel/ids.ts';
import type { Question } from './ask.ts';
import { ask } from './ask.ts';
import type { Boot } from './boot.ts';
import { printAndStop } from './mishaps.ts';

/** What an install has left on a machine's disk, as far as it shows on the network. */
export interface InstalledDisk {
  readonly hostname: string;
  /** IPv4, without a prefix. */
  readonly address: string;
  /** ed25519, made by the ramdisk. */
  readonly hostKey: { readonly private: string; readonly public: string };
  readonly machineId: string;
  readonly authorizedKeys: string;
  readonly agent: { readonly url: string; readonly server: string; readonly bearer: string; readonly ca: string };
}

/** Unpacks the appliance's files into a new system, and makes it an identity of its own. Throws when one is missing. */
export async function writeSystem(tar: Buffer, ids: Ids): Promise<InstalledDisk> {
  const files = await unpack(tar);
  const file = (path: string) => {
    const content = files.get(path);
    if (content === undefined) throw new Error(`the server's files lack ${path}`);
    return content;
  };
  const network = [...files].filter(([path]) => path.startsWith('etc/systemd/network/')).map(([, content]) => content);
  const address = /^Address=([0-9.]+)\/\d+$/m.exec(network.join('\n'))?.[1];
  const bearer = /^Authorization: Bearer (\S+)$/m.exec(file('etc/rackstart/agent.header'))?.[1];
  const setting = (name: string) => new RegExp(`^${name}=(.+)$`, 'm').exec(file('etc/rackstart/agent.conf'))?.[1];
  const [url, server] = [setting('url'), setting('server')];
  if (!address || !bearer || !url || !server) throw new Error("the server's files don't say who it is");
  return {
    hostname: file('etc/hostname').trim(),
    address,
    hostKey: makeHostKey(),
    machineId: ids.random(16).toString('hex'),
    authorizedKeys: file('root/.ssh/authorized_keys'),
    agent: { url, server, bearer, ca: file('etc/rackstart/ca.pem') },
  };
}

/** Type and base64 of the public half; the private half as OpenSSH writes it. */
export function makeHostKey(): InstalledDisk['hostKey'] {
  for (;;) {
    const { private: secret, public: shown } = ssh2.utils.generateKeyPairSync('ed25519');
    const [line = ''] = /^ssh-ed25519 [A-Za-z0-9+/]{68}/.exec(shown) ?? [];
    // ssh2 1.17 drops a first byte that is zero: one key in 256 is a byte too short, and nobody's.
    if (line !== '') return { private: secret, public: line };
  }
}

async function unpack(tar: Buffer): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  const entries = extract();
  entries.on('entry', ({ name }, stream, next) => {
    text(stream).then((content) => {
      files.set(name, content);
      next();
    }, next);
  });
  await pipeline(Readable.from([tar]), entries);
  return files;
}

const HEARTBEAT = 30 * SECOND;

/** The system as it runs, until the power goes, which rejects: SSH, and the agent (`images/agent/rackstart-agent`). */
export async function runSystem(disk: InstalledDisk, boot: Boot): Promise<never> {
  const { door, mishap, clock, notes, say, signal } = boot.deps;
  if (mishap === 'kexec-hang') return boot.idle();
  await boot.enter('system');
  if (mishap === 'system-network') return printAndStop(boot, mishap);
  if (mishap !== 'sshd-off') door.open(mishap === 'host-key' ? { ...disk, hostKey: makeHostKey() } : disk, signal);
  const agent = new Agent(disk, boot);
  if (!(await agent.phoneHome())) {
    say('the appliance refused the agent');
    return boot.idle();
  }
  notes.count('system: phoned home');
  say(`${disk.hostname} is up at ${disk.address}`);
  // A systemd timer: as long as the appliance does not refuse it for good.
  while (await agent.heartbeat()) await clock.sleepUntil(clock.now() + HEARTBEAT, signal);
  return boot.idle();
}

class Agent {
  readonly #disk: InstalledDisk;
  readonly #boot: Boot;
  readonly #bootId: string;
  readonly #started: string;

  constructor(disk: InstalledDisk, boot: Boot) {
    this.#disk = disk;
    this.#boot = boot;
    this.#bootId = boot.deps.ids
      .random(16)
      .toString('hex')
      .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
    this.#started = boot.uptime;
  }

  /** Quick at first, when the network may be a moment away; then once in half a minute. False: refused for good. */
  async phoneHome(): Promise<boolean> {
    const { hostname, machineId, hostKey } = this.#disk;
    const { clock, signal } = this.#boot.deps;
    for (let pause = 1; ; pause = pause < 16 ? pause * 2 : 30) {
      const heard = await this.#tell('phone-home', {
        ...{ hostname, machine_id: machineId, host_key: hostKey.public },
        ...{ boot_id: this.#bootId, started: this.#started },
      });
      if (heard !== undefined) return heard;
      await clock.sleepUntil(clock.now() + pause * SECOND, signal);
    }
  }

  /** False: refused for good. One that was not heard is followed by the next. */
  async heartbeat(): Promise<boolean> {
    const { hardware } = this.#boot.deps.machine;
    const [memory, space] = [hardware.memoryMib * 1024, hardware.diskGib * 1024 ** 2];
    const heard = await this.#tell('heartbeat', {
      ...{ load1: '0.10', memory_total_kib: String(memory), memory_available_kib: String(Math.floor(memory * 0.9)) },
      ...{ disk_total_kib: String(space), disk_used_kib: String(Math.floor(space / 50)) },
    });
    return heard ?? true;
  }

  /** Whether the appliance took it; undefined when it did not hear. */
  async #tell(what: 'phone-home' | 'heartbeat', facts: Record<string, string>): Promise<boolean | undefined> {
    const { notes, trust, signal } = this.#boot.deps;
    const { address, agent } = this.#disk;
    const body = new URLSearchParams({ protocol: '1', server: agent.server, uptime: this.#boot.uptime, ...facts });
    const question: Question = {
      ...{ method: 'POST', from: address, trust: trust(agent.ca), bearer: agent.bearer, body, within: 15_000, signal },
    };
    try {
      const { status } = await notes.timed(what, () => ask(`${agent.url}/agent/v1/${what}`, question));
      if (status === 204) return true;
      return [401, 403, 410].includes(status) ? false : undefined;
    } catch {
      signal.throwIfAborted();
      return undefined;
    }
  }
}
