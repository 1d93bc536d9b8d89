import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';

import { test } from 'tap';
import type { Test } from 'tap';

import { agentFiles } from './files.ts';

test('the agent brings its program, its units and what enables them', (t) => {
  const files = agentFiles();
  t.same(
    files.map(({ path, mode, linkTo }) => [path, mode.toString(8), linkTo]),
    [
      ['usr/local/sbin/rackstart-agent', '755', undefined],
      ['etc/systemd/system/rackstart-agent.service', '644', undefined],
      ['etc/systemd/system/rackstart-heartbeat.service', '644', undefined],
      ['etc/systemd/system/rackstart-heartbeat.timer', '644', undefined],
      ['etc/systemd/system/multi-user.target.wants/rackstart-agent.service', '777', '../rackstart-agent.service'],
      ['etc/systemd/system/multi-user.target.wants/rackstart-heartbeat.timer', '777', '../rackstart-heartbeat.timer'],
    ],
  );
  const program = files[0]?.content?.toString();
  t.match(program, /^#!\/bin\/sh\n/);
  for (const { content, path } of files) {
    const started = /^ExecStart=(\S+)/m.exec(content?.toString() ?? '')?.[1];
    if (started !== undefined && path.endsWith('.service')) t.equal(started, `/${files[0]!.path}`);
  }
  t.end();
});

test('a heartbeat tells load, memory and disk under the credential of its file', async (t) => {
  const { agent, requests } = await prepare(t, [204]);
  t.equal(await agent('heartbeat'), 0);
  const [{ path, authorization, form }] = requests as [Request];
  t.equal(path, '/agent/v1/heartbeat');
  t.equal(authorization, 'Bearer s3cret');
  t.match(Object.fromEntries(form), {
    protocol: '1',
    server: 'srv_1',
    uptime: /^\d+\.\d+$/,
    load1: /^\d+\.\d+$/,
    memory_total_kib: /^\d+$/,
    memory_available_kib: /^\d+$/,
    disk_total_kib: /^\d+$/,
    disk_used_kib: /^\d+$/,
  });
});

test('a heartbeat that is not heard fails, and the next one is as good', async (t) => {
  const { agent, requests } = await prepare(t, [500, 204]);
  t.equal(await agent('heartbeat'), 1);
  t.equal(await agent('heartbeat'), 0);
  t.equal(requests.length, 2);
});

test('phone-home goes on until it is heard', async (t) => {
  const { agent, requests } = await prepare(t, [503, 500, 204]);
  t.equal(await agent('phone-home'), 0);
  t.same(
    requests.map(({ path }) => path),
    Array(3).fill('/agent/v1/phone-home'),
  );
  const form = requests[2]?.form;
  t.match(form?.get('host_key'), /^ssh-ed25519 AAAA\S+$/);
  t.equal(form?.get('machine_id'), '0123456789abcdef0123456789abcdef');
  t.equal(form?.get('started'), requests[0]?.form.get('started'), 'when it began to try does not change');
});

test('a credential that is revoked ends the trying', async (t) => {
  for (const what of ['phone-home', 'heartbeat']) {
    const { agent, requests, systemctl } = await prepare(t, [403, 204]);
    t.equal(await agent(what), 77);
    t.equal(requests.length, 1);
    t.equal(systemctl(), 'stop --no-block rackstart-heartbeat.timer\n');
  }
});

interface Request {
  path: string | undefined;
  authorization: string | undefined;
  form: URLSearchParams;
}

async function prepare(t: Test, statuses: number[]) {
  const requests: Request[] = [];
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      const { url: path, headers } = request;
      requests.push({ path, authorization: headers.authorization, form: new URLSearchParams(body) });
      response.writeHead(statuses.shift() ?? 500).end();
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());

  const root = mkdtempSync(join(tmpdir(), 'rs-agent-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const put = (file: string, content: string, mode = 0o644) => {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), content, { mode });
  };
  const { port } = server.address() as AddressInfo;
  put('etc/rackstart/agent.conf', `url=http://127.0.0.1:${port}\nserver=srv_1\n`);
  put('etc/rackstart/agent.header', 'Authorization: Bearer s3cret\n', 0o600);
  put('etc/rackstart/ca.pem', '');
  put('etc/machine-id', '0123456789abcdef0123456789abcdef\n');
  put('etc/ssh/ssh_host_ed25519_key.pub', 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK+/x root@somewhere\n');
  put('bin/sleep', '#!/bin/sh\n', 0o755);
  put('bin/systemctl', `#!/bin/sh\necho "$@" >>'${root}/systemctl'\n`, 0o755);
  const env = { ...process.env, RACKSTART_ROOT: root, PATH: `${root}/bin:${process.env['PATH'] ?? ''}` };

  return {
    requests,
    systemctl: () => readFileSync(join(root, 'systemctl'), 'utf8'),
    agent: async (what: string): Promise<number | null> => {
      const child = spawn('sh', [join(import.meta.dirname, 'rackstart-agent'), what], { env, stdio: 'ignore' });
      await once(child, 'exit');
      return child.exitCode;
    },
  };
}
