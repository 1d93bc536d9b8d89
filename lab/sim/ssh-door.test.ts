import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import { test } from 'tap';
import type { Test } from 'tap';

import { run } from '../process/run.ts';
import { SshDoor } from './ssh-door.ts';

const skip = existsSync('/usr/bin/ssh') ? false : 'OpenSSH is missing: apt-get install openssh-client';

test(
  'OpenSSH meets at each address the host that runs there, and it lets its own tenant in alone',
  { skip },
  async (t) => {
    const { door, keyOf, ssh } = await open(t);
    const [one, other] = [new AbortController(), new AbortController()];
    const hostOne = host('127.0.0.21', 'one', keyOf('tenant-one'));
    const hostOther = host('127.0.0.22', 'other', keyOf('tenant-other'));
    door.open(hostOne, one.signal);
    door.open(hostOther, other.signal);
    t.equal(door.size, 2);
    t.equal(await ssh(hostOne, 'tenant-one', 'root', 'hostname'), 'one\n');
    t.equal(await ssh(hostOther, 'tenant-other', 'root', 'hostname'), 'other\n');
    for (const [key, user] of [
      ['tenant-other', 'root'],
      ['tenant-one', 'admin'],
    ] as const) {
      const refusal = await ssh(hostOne, key, user, 'hostname').catch(String);
      t.match(refusal, /Permission denied \(publickey\)/, `${user} with the key of ${key}`);
      t.notMatch(
        refusal,
        /Server accepts key/,
        'nor is it said that the key would do: that is what the appliance asks',
      );
    }
    await t.rejects(ssh(hostOne, 'tenant-one', 'root', 'reboot'), { message: /exit 127/ });
    const impostor = { ...hostOne, hostKey: hostOther.hostKey };
    await t.rejects(ssh(impostor, 'tenant-one', 'root', 'hostname'), { message: /host key|Host key/i });

    one.abort();
    t.equal(door.size, 1);
    await t.rejects(ssh(hostOne, 'tenant-one', 'root', 'hostname'), { message: /closed|reset/ });
  },
);

async function open(t: Test) {
  const directory = mkdtempSync(join(tmpdir(), 'rs-door-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const door = new SshDoor();
  const port = await door.listen(0);
  t.teardown(() => door.close());
  const login = (name: string) => {
    const file = join(directory, name);
    if (!existsSync(file)) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', file]);
    return file;
  };
  const keyOf = (name: string) => readFileSync(`${login(name)}.pub`, 'utf8');
  const ssh = ({ address, hostKey }: ReturnType<typeof host>, key: string, user: string, command: string) => {
    // OpenSSH looks for keys of another port under [address]:port.
    const known = `KnownHostsCommand=/bin/echo [${address}]:${port} ${hostKey.public}`;
    const options = [
      'StrictHostKeyChecking=yes',
      'UserKnownHostsFile=/dev/null',
      known,
      'BatchMode=yes',
      `Port=${port}`,
    ];
    const argv = ['ssh', '-v', '-F', '/dev/null', '-i', login(key), ...options.flatMap((option) => ['-o', option])];
    return run([...argv, '-o', 'IdentitiesOnly=yes', `${user}@${address}`, command]);
  };
  return { door, keyOf, ssh };
}

function host(address: string, hostname: string, authorizedKeys: string) {
  const keys = ssh2.utils.generateKeyPairSync('ed25519');
  return { address, hostname, authorizedKeys: `# tenant\n${authorizedKeys}`, hostKey: keys };
}
