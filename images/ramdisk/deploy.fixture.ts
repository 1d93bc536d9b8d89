import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';

import type { Test } from 'tap';

/** What `deploy` sources, each in a file of its own. */
export const deployParts = [
  'protocol',
  'network',
  'disk',
  'image',
  'chunks',
  'fetch',
  'ahead',
  'grow',
  'mirror',
  'layout',
  'inject',
  'boot-order',
  'handoff',
  'inspect',
  'lldp',
  'check',
  'erase',
  'wipe',
  'watchdog',
];

/** A ramdisk that is a directory: the deploy scripts run on this host, over made-up /sys, /run and the like. */
export interface FakeRamdisk {
  /** Absolute path of a file in there: `run/...`, `sys/...`, `proc/...`, `etc/...`. */
  path(file: string): string;
  /** Writes a file in there, with its directories. */
  put(file: string, content: string): void;
  read(file: string): string;
  /** Runs one stage as `stage` of the deploy script does; what it says when it fails, undefined when it does not. */
  stage(name: string, started?: (shell: ChildProcess) => void): Promise<{ code: string; reason: string } | undefined>;
  /** Runs shell text with all parts of the deploy script sourced; gives what it prints, fails with what it complains of. */
  shell(script: string): Promise<string>;
}

export interface FakeRamdiskOptions {
  /** Processes of this host are seen in there, and time passes as it does here. */
  readonly realProc?: boolean;
  /** Directory of programs that a ramdisk has and this host has not. */
  readonly programs?: string;
  /** The first pause before something is tried again, in seconds. */
  readonly retryPause?: number;
}

export function fakeRamdisk(
  t: Test,
  { realProc = false, programs = '', retryPause = 0 }: FakeRamdiskOptions = {},
): FakeRamdisk {
  const root = mkdtempSync(join(tmpdir(), 'rs-ramdisk-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const path = (file: string) => join(root, file);
  const put = (file: string, content: string) => {
    mkdirSync(dirname(path(file)), { recursive: true });
    writeFileSync(path(file), content);
  };
  const read = (file: string) => readFileSync(path(file), 'utf8');
  const env = {
    ...process.env,
    PATH: [realProc ? '' : path('bin'), programs, process.env['PATH']].filter(Boolean).join(':'),
    SYS: path('sys'),
    PROC: realProc ? '/proc' : path('proc'),
    RUN: path('run'),
    ETC: path('etc'),
    NEW: path('mnt'),
    MIRROR: path('md0'),
    RETRY_PAUSE: String(retryPause),
    LC_ALL: 'C',
  };

  // Waiting is for hardware.
  put('bin/sleep', '#!/bin/sh\n');
  chmodSync(path('bin/sleep'), 0o755);
  put('run/log', '');
  put('run/facts', '');
  put('proc/uptime', '12.34 10.00\n');
  put('proc/sys/kernel/random/uuid', '0b6a2a0e-6d7e-4b47-9d10-3d8d6f4a8c11\n');
  put('etc/ca.pem', '');
  put('etc/version', '0123456789abcdef\n');
  mkdirSync(path('mnt'));

  return {
    path,
    put,
    read,
    async stage(name, started) {
      rmSync(path('run/failure'), { force: true });
      const child = spawn('sh', [DEPLOY, name], { env, stdio: 'inherit' });
      started?.(child);
      await once(child, 'exit');
      if (child.exitCode === 0) return undefined;
      const failure = new Map(tryRead(path('run/failure')).split('\n').map(splitLine));
      return { code: failure.get('code') ?? '', reason: failure.get('reason') ?? read('run/log') };
    },
    async shell(script) {
      const sources = deployParts.map((part) => `. '${join(import.meta.dirname, `${part}.sh`)}'`).join('\n');
      const whole = `fail() { echo "FAIL $1 $2" >&2; exit 1; }\n${UPTIME}\n${sources}\n${script}\n`;
      const child = spawn('sh', ['-euc', whole, DEPLOY], { env, stdio: ['ignore', 'pipe', 'pipe'] });
      const [output, complaint] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
      if (child.exitCode !== 0) throw new Error(complaint);
      return output;
    },
  };
}

const DEPLOY = join(import.meta.dirname, 'deploy');
const UPTIME = `uptime_seconds() { cut -d' ' -f1 "$PROC/uptime"; }`;

function tryRead(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function splitLine(line: string): [string, string] {
  const at = line.indexOf('=');
  return [line.slice(0, at), line.slice(at + 1)];
}
