import { createHash, hash } from 'node:crypto';

import type { Mac } from '../../pxe/boot-client.ts';
import type {
  AgentDesk,
  BootDecision,
  BootDirector,
  HealthCheck,
  Inspection,
  OrderLines,
  ReportStage,
  WipedDisk,
} from '../../pxe/boot-plan.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { ErrorCode } from '../kernel/errors.ts';
import { Secret } from '../kernel/secret.ts';
import type { BootDevice } from './bmc/bmc.ts';
import { RackBmc } from './rack-bmc.fixture.ts';

/** What a daemon answers on its provisioning network. */
export interface Plane {
  readonly director: BootDirector;
  readonly agents: AgentDesk;
}

/** Asks the daemon that runs; when it dies meanwhile, the one after it, as curl's retries do. */
export type Ask = <T>(question: (plane: Plane) => Promise<T>) => Promise<T>;

/** Where a machine may be told to misbehave, in the order in which it comes by. */
export type Hop = 'dhcp' | 'script' | 'claim' | 'next' | ReportStage | 'boot' | 'phone-home' | 'heartbeat';

/** Nothing wrong; silent from here on; or a failure of the stage, reported with code and reason. */
export type Behaviour = undefined | 'silent' | { readonly code: string; readonly reason: string };

/** The system that an install has written. */
export interface InstalledSystem {
  readonly server: string;
  readonly hostKey: string;
  readonly address: string;
  readonly files: ReadonlyMap<string, string>;
}

/**
 * A double of one machine with its BMC, in memory: told to boot from the network, it speaks to the boot plane as firmware,
 * ramdisk and installed agent do, without taking time.
 */
export class RackMachine extends RackBmc {
  readonly mac: Mac;
  readonly uuid: string;
  inspection: Inspection;
  /** What a check finds besides: what it says otherwise follows from the inspection. */
  health: Partial<HealthCheck> = {};
  /** How its disks take a wipe. */
  erasure: Partial<WipedDisk> = {};
  /** A ramdisk that says that it has checked everything, and not what it has found. */
  tellsHealth = true;
  /** What its disk holds, and every order's generation by which something was written to it. */
  system: InstalledSystem | undefined;
  readonly writes: number[] = [];
  /** How it came into each system that its ramdisk started. */
  readonly handoffs: ('kexec' | 'reset')[] = [];
  readonly decisions: BootDecision['verb'][] = [];
  /** Codes with which the appliance turned it away. */
  readonly refusals: ErrorCode[] = [];
  /** What the machine still does; undefined when it is off, or sits there. */
  work: Promise<void> | undefined;
  bearer: Secret | undefined;
  generation = 0;
  /** Which one it boots. */
  ramdisk = 'a ramdisk';
  /** Whether it waits for its next order, on a long poll. */
  isParked = false;

  /** What its kernel says in the log that it sends of a failure. */
  kernelLog: readonly string[] = [];
  /** A ramdisk that leaves with its timer running. */
  leavesTimerArmed = false;
  /** Asked at each hop. */
  atHop: (hop: Hop) => Behaviour | Promise<Behaviour> = () => undefined;
  /** Asked when a parked machine is sent its order: `lost` is an answer that never came. */
  atAnswer: (order: OrderLines) => 'heard' | 'lost' = () => 'heard';

  readonly #ask: Ask;
  #boots = 0;
  /** Aborts when it goes. */
  #power = new AbortController();
  #running = false;

  constructor(mac: Mac, ask: Ask) {
    super();
    this.mac = mac;
    this.#ask = ask;
    const hash = createHash('sha256').update(mac).digest('hex');
    this.uuid = `${hash.slice(0, 8)}-${hash.slice(8, 12)}-4000-8000-${hash.slice(12, 24)}`;
    this.inspection = {
      cores: 8,
      memoryMib: 16_384,
      uuid: this.uuid,
      vendor: 'Double',
      model: 'D1',
      serial: mac,
      firmware: 'uefi',
      firmwareVersion: '1.0',
      disks: [{ name: 'sda', bytes: 500 * 1024 ** 3, type: 'ssd', serial: 'S1', model: 'M1', wear: 3 }],
      dimms: [{ slot: 'A1', mib: 16_384, serial: 'X1' }],
      nics: [{ name: 'eth0', mac, up: true, speedMbps: 10_000 }],
    };
  }

  protected override lostPower(): void {
    this.#boots += 1;
    this.#running = false;
    this.isParked = false;
    this.#power.abort();
    this.#power = new AbortController();
    this.work = undefined;
  }

  protected override gotPower(device: BootDevice | undefined): void {
    this.#track(this.#boot(this.#boots, device));
  }

  #track(doing: Promise<void>): void {
    const work = doing.then(
      () => undefined,
      (error: unknown) => {
        if (error instanceof RackstartError) this.refusals.push(error.code);
        else if (!(error instanceof Silence)) throw error;
      },
    );
    this.work = work.finally(() => {
      if (this.work === tracked) this.work = undefined;
    });
    const tracked = this.work;
  }

  async #boot(boot: number, device: BootDevice | undefined): Promise<void> {
    if (device === 'pxe') {
      const client = { mac: this.mac, kind: 'ipxe', architecture: 7, uuid: this.uuid } as const;
      await this.#pass(boot, 'dhcp');
      const decision = await this.#say(boot, ({ director }) => director.decide(client));
      this.decisions.push(decision.verb);
      if (!('why' in decision)) return this.#ramdisk(boot, decision.scriptToken);
    }
    await this.#startSystem(boot);
  }

  async #ramdisk(boot: number, scriptToken: Secret): Promise<void> {
    await this.#pass(boot, 'script');
    const { claimToken } = await this.#say(boot, ({ director }) => director.script(this.mac, scriptToken));
    await this.#pass(boot, 'claim');
    const claim = {
      protocol: 1,
      token: claimToken,
      nonce: createHash('md5')
        .update(`${this.mac} ${String(boot)}`)
        .digest('hex'),
      mac: this.mac,
      uuid: this.uuid,
      ramdisk: this.ramdisk,
      from: '10.77.0.11',
    };
    const { bearer, order } = await this.#say(boot, ({ director }) => director.claim(claim));
    this.bearer = bearer;
    this.generation = Number(order['generation']);
    switch (order['verb']) {
      case 'inspect':
        await this.#inspect(boot, bearer);
        return;
      case 'wait':
        if (await this.#inspect(boot, bearer)) await this.#park(boot, bearer);
        return;
      case 'wipe':
        await this.#stage(boot, 'wipe', () => this.#wipe(boot, bearer));
        return;
      case 'install':
        await this.#install(boot, bearer, order);
    }
  }

  async #inspect(boot: number, bearer: Secret): Promise<boolean> {
    const { cores, memoryMib, disks, nics } = this.inspection;
    const inspected = await this.#stage(boot, 'inspect', async () => {
      await this.#say(boot, ({ director }) => director.inspection(bearer, this.inspection));
      return undefined;
    });
    if (!inspected) return false;
    return this.#stage(boot, 'check', async () => {
      const check: HealthCheck = {
        ...{ cores, memoryMib, nics, clockOffset: 0 },
        memory: { testedKib: 1024, wrongBytes: 0 },
        disks: disks.map(({ name, bytes, serial }) => ({ name, bytes, serial, smart: 'ok' })),
        ...this.health,
      };
      if (this.tellsHealth) await this.#say(boot, ({ director }) => director.check(bearer, check));
      return undefined;
    });
  }

  async #wipe(boot: number, bearer: Secret): Promise<Record<string, string>> {
    for (const { name, bytes, serial, model } of this.inspection.disks) {
      const read = { samples: 1, sampledBytes: 512, digest: hash('sha256', Buffer.alloc(512)) };
      const wiped = { name, bytes, serial, model, method: 'discard', seconds: 1, ...read, ...this.erasure };
      await this.#say(boot, ({ director }) => director.wiped(bearer, wiped));
      const { failure } = wiped;
      if (failure !== undefined) throw new RackstartError('boot.stage-failed', `${name}: ${failure}`);
    }
    this.system = undefined;
    return { method: 'discard', disks: 'sda:discard' };
  }

  /** The first question ends at once, so that whoever waits for this machine's work knows that it was heard; then it sits there. */
  async #park(boot: number, bearer: Secret): Promise<void> {
    const { generation } = this;
    await this.#say(boot, ({ director }) => director.next(bearer, generation, AbortSignal.abort())).catch(
      (error: unknown) => {
        if (!(error instanceof Error) || error.name !== 'AbortError') throw error;
      },
    );
    this.isParked = true;
    void this.#wait(boot, bearer);
  }

  async #wait(boot: number, bearer: Secret): Promise<void> {
    const power = this.#power.signal;
    try {
      while ((await this.atHop('next')) !== 'silent') {
        const next = await this.#say(boot, ({ director }) => director.next(bearer, this.generation, power));
        if (next === undefined || this.atAnswer(next.order) === 'lost') continue;
        this.bearer = next.bearer;
        this.generation = Number(next.order['generation']);
        this.#track(this.#install(boot, next.bearer, next.order));
        return;
      }
    } catch (error) {
      if (error instanceof RackstartError) this.refusals.push(error.code);
    } finally {
      if (boot === this.#boots) this.isParked = false;
    }
  }

  async #install(boot: number, bearer: Secret, order: OrderLines): Promise<void> {
    if (order['watchdog'] !== undefined) this.timer = { ...this.timer, armed: this.watchdogAction === 'reset' };
    let system: InstalledSystem | undefined;
    const stages: [ReportStage, () => Promise<Record<string, string>>][] = [
      ['disk', () => Promise.resolve({ disk: 'sda' })],
      [
        'image',
        () => {
          this.writes.push(this.generation);
          this.system = undefined;
          return Promise.resolve({ bytes: '1000', seconds: '1.5' });
        },
      ],
      ['grow', () => Promise.resolve({ root_bytes: '500' })],
      [
        'inject',
        async () => {
          system = systemOf(
            await this.#say(boot, ({ director }) => director.files(bearer)),
            `${this.mac} ${String(boot)}`,
          );
          return { host_key: system.hostKey, machine_id: '0'.repeat(32) };
        },
      ],
    ];
    for (const [stage, work] of stages) if (!(await this.#stage(boot, stage, work))) return;
    if (!this.leavesTimerArmed) this.timer = { ...this.timer, armed: false };
    await this.#report(boot, 'kexec', 'started');
    this.system = system;
    const came = await this.#behaviour(boot, 'kexec');
    if (came !== undefined) return this.#fail(boot, 'kexec', came);
    this.handoffs.push(order['handoff'] === 'reset' ? 'reset' : 'kexec');
    await this.#startSystem(boot);
  }

  async #startSystem(boot: number): Promise<void> {
    const { system } = this;
    if (system === undefined) return;
    await this.#pass(boot, 'boot');
    this.#running = true;
    const credential = new Secret(
      (system.files.get('etc/rackstart/agent.header') ?? '').trim().split(' ').at(-1) ?? '',
    );
    const { server, hostKey } = system;
    await this.#pass(boot, 'phone-home');
    const hostname = (system.files.get('etc/hostname') ?? '').trim();
    const times = { bootId: this.uuid, uptime: 12, started: 11 };
    const here = { protocol: 1, server, hostname, machineId: '0'.repeat(32), hostKey, ...times };
    await this.#say(boot, ({ agents }) => agents.phoneHome(credential, here));
    await this.#pass(boot, 'heartbeat');
    const memory = { memoryTotalKib: 16_000_000, memoryAvailableKib: 15_000_000 };
    const beat = { protocol: 1, server, uptime: 13, load1: 0.1, ...memory, diskTotalKib: 1000, diskUsedKib: 10 };
    await this.#say(boot, ({ agents }) => agents.heartbeat(credential, beat));
  }

  /** True when it was done. */
  async #stage(
    boot: number,
    stage: ReportStage,
    work: () => Promise<Record<string, string> | undefined>,
  ): Promise<boolean> {
    await this.#report(boot, stage, 'started');
    const behaviour = await this.#behaviour(boot, stage);
    if (behaviour !== undefined) {
      await this.#fail(boot, stage, behaviour);
      return false;
    }
    try {
      await this.#report(boot, stage, 'done', (await work()) ?? {});
      return true;
    } catch (error) {
      if (!(error instanceof RackstartError)) throw error;
      this.refusals.push(error.code);
      await this.#fail(boot, stage, { code: 'boot.stage-failed', reason: `turned away: ${error.message}` });
      return false;
    }
  }

  async #fail(boot: number, stage: ReportStage, failure: { code: string; reason: string }): Promise<void> {
    const { bearer, kernelLog } = this;
    const log = [...kernelLog, `${stage} failed`].join('\n');
    if (bearer !== undefined) await this.#say(boot, ({ director }) => director.log(bearer, log));
    await this.#report(boot, stage, 'failed', { ...failure });
  }

  async #report(
    boot: number,
    stage: ReportStage,
    status: 'started' | 'done' | 'failed',
    facts: Record<string, string> = {},
  ): Promise<void> {
    const { bearer, generation } = this;
    if (bearer === undefined) throw new Error('nothing was claimed');
    await this.#say(boot, ({ director }) => director.report(bearer, { generation, stage, status, uptime: 1, facts }));
  }

  async #pass(boot: number, hop: Hop): Promise<void> {
    await this.#behaviour(boot, hop);
  }

  async #behaviour(boot: number, hop: Hop): Promise<Exclude<Behaviour, 'silent'>> {
    const behaviour = await this.atHop(hop);
    if (behaviour === 'silent' || boot !== this.#boots) throw new Silence();
    return behaviour;
  }

  async #say<T>(boot: number, question: (plane: Plane) => Promise<T>): Promise<T> {
    if (boot !== this.#boots) throw new Silence();
    const answer = await this.#ask(question);
    if (boot !== this.#boots) throw new Silence();
    return answer;
  }

  /** The server's sshd, as `probeSsh` meets it; undefined when nothing answers at this address. */
  sshAt(address: string): InstalledSystem | undefined {
    return this.#running && this.system?.address === address ? this.system : undefined;
  }
}

/** A machine that was switched off, or says nothing more. */
class Silence extends Error {}

export interface Probed {
  readonly host: string;
  readonly hostKey: string;
  readonly publicKey: string;
}

/** Does what `probeSsh` does, to the machines of this rack. */
export function probeRack(machines: readonly RackMachine[], target: Probed): Promise<void> {
  const system = machines.map((machine) => machine.sshAt(target.host)).find((one) => one !== undefined);
  const refuse = (code: ErrorCode) => Promise.reject(new RackstartError(code, `${target.host}: ${code}`));
  if (system === undefined) return refuse('ssh.unreachable');
  if (system.hostKey !== target.hostKey) return refuse('ssh.host-key');
  const keys = system.files.get('root/.ssh/authorized_keys') ?? '';
  return keys.includes(target.publicKey) ? Promise.resolve() : refuse('ssh.key-refused');
}

function systemOf(files: readonly { path: string; content?: string | Buffer }[], seed: string): InstalledSystem {
  const contents = new Map(files.map(({ path, content = '' }) => [path, content.toString()]));
  const networks = [...contents].filter(([path]) => path.endsWith('.network')).map(([, content]) => content);
  const address = networks.map((text) => /^Address=([0-9.]+)\//m.exec(text)?.[1]).find((found) => found !== undefined);
  const key = createHash('sha512').update(seed).digest().subarray(0, 51).toString('base64');
  return {
    server: /^server=(.*)$/m.exec(contents.get('etc/rackstart/agent.conf') ?? '')?.[1] ?? '',
    hostKey: `ssh-ed25519 ${key}`,
    address: address ?? '',
    files: contents,
  };
}
