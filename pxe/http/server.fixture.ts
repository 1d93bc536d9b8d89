import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Test } from 'tap';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { Secret } from '../../appliance/kernel/secret.ts';
import { Turnstile } from '../../appliance/kernel/turnstile.ts';
import { ChunkDirectory } from '../../images/chunk-directory.ts';
import { FrozenImages } from '../../images/frozen-images.ts';
import { loadBootScripts } from '../../templates/boot-scripts.ts';
import { parseMac } from '../boot-client.ts';
import type { Mac } from '../boot-client.ts';
import type {
  AgentDesk,
  BootDecision,
  BootDirector,
  Claim,
  ClaimGrant,
  HealthCheck,
  Heartbeat,
  Inspection,
  NextOrder,
  OrderLines,
  PhoneHome,
  RamdiskBoot,
  Report,
  SystemFile,
  WipedDisk,
} from '../boot-plan.ts';
import type { TimelineEntry, TimelineOwner } from '../timeline.ts';
import { openBootCertificate } from './certificate.ts';
import type { HttpLimits } from './server.ts';
import { BootHttp } from './server.ts';

export const MAC = parseMac('52:54:00:77:00:01') as Mac;
export const SCRIPT_TOKEN = 'script-token';
export const CLAIM_TOKEN = 'claim-token';
export const BEARER = 'boot_1.bearer';
export const NEXT_BEARER = 'boot_2.bearer';
export const CREDENTIAL = 'att_1.credential';

/** Knows one machine with one order, and keeps what it is told. */
export class TestDirector implements BootDirector, AgentDesk {
  readonly told: unknown[] = [];
  nonce: string | undefined;
  nextOrder: OrderLines | undefined;
  readonly waiting = Promise.withResolvers<AbortSignal>();
  waits = false;

  decide(): Promise<BootDecision> {
    return Promise.resolve({ verb: 'local-disk', why: 'not asked here' });
  }

  async script(mac: Mac, token: Secret): Promise<RamdiskBoot> {
    if (mac !== MAC || token.reveal() !== SCRIPT_TOKEN) throw refused();
    return { sessionId: 'boot_1', claimToken: new Secret(CLAIM_TOKEN), address: '127.0.0.1/8', gateway: '127.0.0.254' };
  }

  async claim({ token, nonce, ...rest }: Claim): Promise<ClaimGrant> {
    if (token.reveal() !== CLAIM_TOKEN) throw refused();
    if ((this.nonce ??= nonce) !== nonce) throw new RackstartError('boot.claim-conflict', 'Claimed by another.');
    this.told.push(rest);
    return {
      sessionId: 'boot_1',
      bearer: new Secret(BEARER),
      order: { verb: 'install', generation: '7', kernel_args: 'a b=c' },
    };
  }

  async report(bearer: Secret, report: Report): Promise<void> {
    known(bearer);
    if (report.generation !== 7) throw new RackstartError('boot.stale', 'Replaced.');
    this.told.push(report);
  }

  async log(bearer: Secret, text: string): Promise<void> {
    known(bearer);
    this.told.push(text);
  }

  async inspection(bearer: Secret, inspection: Inspection): Promise<void> {
    known(bearer);
    this.told.push(inspection);
  }

  async check(bearer: Secret, check: HealthCheck): Promise<void> {
    known(bearer);
    this.told.push(check);
  }

  async wiped(bearer: Secret, disk: WipedDisk): Promise<void> {
    known(bearer);
    this.told.push(disk);
  }

  async files(bearer: Secret): Promise<readonly SystemFile[]> {
    known(bearer);
    return [
      { path: 'root/.ssh/', mode: 0o700 },
      { path: 'root/.ssh/authorized_keys', mode: 0o600, content: 'ssh-ed25519 AAAA\n' },
      { path: 'usr/lib/agent', mode: 0o755, content: Buffer.from('#!/bin/sh\n') },
      { path: 'etc/systemd/system/multi-user.target.wants/agent.service', linkTo: '../agent.service' },
    ];
  }

  async next(bearer: Secret, _generation: number, signal: AbortSignal): Promise<NextOrder | undefined> {
    known(bearer);
    if (!this.waits) return this.nextOrder && { bearer: new Secret(NEXT_BEARER), order: this.nextOrder };
    this.waiting.resolve(signal);
    return new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
  }

  async phoneHome(credential: Secret, message: PhoneHome): Promise<void> {
    admitted(credential);
    this.told.push(message);
  }

  async heartbeat(credential: Secret, message: Heartbeat): Promise<void> {
    admitted(credential);
    this.told.push(message);
  }
}

export interface Seen {
  readonly owner: TimelineOwner;
  readonly entry: TimelineEntry;
}

export interface Rig {
  readonly http: string;
  readonly https: string;
  readonly ports: { http: number; https: number };
  readonly ca: string;
  /** A file that holds `ca`, for curl. */
  readonly caFile: string;
  readonly director: TestDirector;
  /** Large enough to be cut, and gone on with. */
  readonly initrd: { sha256: string; content: Buffer };
  /** Where frozen images are; empty. */
  readonly frozen: ChunkDirectory;
  readonly logged: string[];
  /** Resolves with the first entry of this name, and with such details, once it was seen. */
  readonly seen: (name: string, such?: (detail: TimelineEntry['detail']) => boolean) => Promise<Seen>;
  /** The names of all entries so far. */
  readonly names: () => string[];
  readonly stop: () => Promise<void>;
}

/** Both servers on loopback; gone when the test ends. */
export async function startRig(t: Test, limits: Partial<HttpLimits> = {}): Promise<Rig> {
  const directory = mkdtempSync(join(tmpdir(), 'rs-http-'));
  const clock = new ManualClock();
  const certificate = await openBootCertificate({ directory, addresses: ['127.0.0.1'], ids: createIds(clock) });
  const caFile = join(directory, 'boot-ca.pem');
  const content = Buffer.alloc(3_000_000, 'initrd ');
  const sha256 = createHash('sha256').update(content).digest('hex');
  const frozen = new ChunkDirectory(join(directory, 'frozen'));
  const director = new TestDirector();
  const entries: Seen[] = [];
  const watchers = new Set<() => void>();
  const logged: string[] = [];
  const server = new BootHttp({
    listen: { address: '127.0.0.1', httpPort: 0, httpsPort: 0 },
    director,
    agents: director,
    certificate,
    scripts: loadBootScripts(),
    loaders: new Map([
      ['snponly.efi', Buffer.from('a loader')],
      ['undionly.kpxe', Buffer.from('another')],
    ]),
    ramdisk: {
      kernel: { bytes: Buffer.from('kernel'), sha256: 'k' },
      initrd: { bytes: content, sha256 },
      version: '0123456789abcdef',
    },
    timeline: {
      seen(owner, entry) {
        entries.push({ owner, entry });
        for (const watcher of watchers) watcher();
      },
    },
    frozen: new FrozenImages(frozen, 2 ** 26),
    turnstile: new Turnstile(4, 4),
    imageTurns: new Turnstile(4, 4),
    clock,
    log: recordingLog(logged),
    limits,
  });
  const stopping = new AbortController();
  const running = server.run(stopping.signal);
  const stop = async () => {
    stopping.abort();
    await running;
  };
  t.teardown(async () => {
    await stop();
    rmSync(directory, { recursive: true });
  });
  const ports = await server.ready;
  return {
    http: `http://127.0.0.1:${ports.http}`,
    https: `https://127.0.0.1:${ports.https}`,
    ports,
    ca: certificate.ca,
    caFile,
    director,
    initrd: { sha256, content },
    frozen,
    logged,
    stop,
    names: () => entries.map(({ entry }) => entry.name),
    seen: (name, such = () => true) =>
      new Promise((resolve) => {
        const look = () => {
          const found = entries.find(({ entry }) => entry.name === name && such(entry.detail));
          if (found === undefined) return;
          watchers.delete(look);
          resolve(found);
        };
        watchers.add(look);
        look();
      }),
  };
}

function refused(): RackstartError {
  return new RackstartError('boot.token-refused', 'Refused.');
}

function known(bearer: Secret): void {
  if (bearer.reveal() !== BEARER) throw refused();
}

function admitted(credential: Secret): void {
  if (credential.reveal() !== CREDENTIAL) throw new RackstartError('agent.refused', 'Refused.');
}

function recordingLog(lines: string[]): Log {
  const write = (fields: object, message: string) => {
    lines.push(`${message} ${JSON.stringify(fields)}`);
  };
  return { debug: write, info: write, warn: write, error: write, child: () => recordingLog(lines) };
}
