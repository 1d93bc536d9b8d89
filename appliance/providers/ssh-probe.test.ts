import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';

import { probeSsh } from './ssh-probe.ts';

const SSHD = '/usr/sbin/sshd';
const never = new AbortController().signal;

const missing = !existsSync(SSHD)
  ? 'openssh-server is not installed'
  : process.getuid?.() !== 0 && 'root is needed to start sshd';

test('against OpenSSH', { skip: missing }, async (t) => {
  const server = await startSshd();
  t.teardown(() => server.stop());
  const target = { host: '127.0.0.1', port: server.port, username: 'root', hostKey: server.hostKey };

  await t.test("the tenant's accepted key is proof enough, and nothing was signed", async (t) => {
    await probeSsh({ ...target, publicKey: server.acceptedKey }, 10_000, never);
    t.notMatch(server.log(), /Accepted publickey/);
    t.match(server.log(), /Accepted key ED25519/);
  });

  await t.test('a key that the server does not know is refused', async (t) => {
    await t.rejects(probeSsh({ ...target, publicKey: server.otherKey }, 10_000, never), { code: 'ssh.key-refused' });
  });

  await t.test('another host key is another machine', async (t) => {
    const probe = probeSsh({ ...target, hostKey: server.otherKey, publicKey: server.acceptedKey }, 10_000, never);
    await t.rejects(probe, { code: 'ssh.host-key' });
  });
});

test('a closed port and a mute one are unreachable, and an abort ends the wait', async (t) => {
  const mute = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => mute.once('listening', resolve));
  t.teardown(() => mute.close());
  const { port } = mute.address() as AddressInfo;
  const key = `ssh-ed25519 ${Buffer.concat([lengthed('ssh-ed25519'), lengthed('x'.repeat(32))]).toString('base64')}`;
  const target = { host: '127.0.0.1', port, username: 'root', hostKey: key, publicKey: key };

  const aborted = new AbortController();
  const probe = probeSsh(target, 60_000, aborted.signal);
  mute.once('connection', () => aborted.abort());
  await t.rejects(probe, { code: 'ssh.unreachable' });

  await new Promise((resolve) => {
    mute.close(resolve);
  });
  const refused = { code: 'ssh.unreachable', details: { errno: 'ECONNREFUSED' } };
  await t.rejects(probeSsh(target, 10_000, never), refused);
});

function lengthed(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return Buffer.concat([length, Buffer.from(text)]);
}

async function startSshd() {
  const directory = mkdtempSync(join(tmpdir(), 'rs-sshd-'));
  const key = (name: string) => {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', join(directory, name)]);
    return readFileSync(join(directory, `${name}.pub`), 'utf8').trim();
  };
  const [hostKey, acceptedKey, otherKey] = [key('host'), key('tenant'), key('other')];
  writeFileSync(join(directory, 'authorized_keys'), `${acceptedKey}\n`);
  const port = await freePort();
  writeFileSync(
    join(directory, 'sshd_config'),
    [
      `Port ${String(port)}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${join(directory, 'host')}`,
      `AuthorizedKeysFile ${join(directory, 'authorized_keys')}`,
      'PermitRootLogin prohibit-password',
      'PasswordAuthentication no',
      'StrictModes no',
      'UsePAM no',
      'LogLevel VERBOSE',
      `PidFile none`,
    ].join('\n'),
  );
  mkdirSync('/run/sshd', { recursive: true });
  const sshd = spawn(SSHD, ['-D', '-e', '-f', join(directory, 'sshd_config')], { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  await new Promise<void>((resolve) => {
    sshd.stderr.on('data', (chunk: Buffer) => {
      log += chunk.toString();
      if (log.includes('Server listening')) resolve();
    });
  });
  return {
    port,
    hostKey,
    acceptedKey,
    otherKey,
    log: () => log,
    async stop() {
      const ended = new Promise((resolve) => sshd.once('exit', resolve));
      sshd.kill();
      await ended;
      rmSync(directory, { recursive: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => {
    server.close(resolve);
  });
  return port;
}
