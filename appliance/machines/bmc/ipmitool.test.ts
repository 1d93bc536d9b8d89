import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { Test } from 'tap';

import { until } from '../../../lab/process/until.ts';
import { systemClock } from '../../kernel/clock.ts';
import { Secret } from '../../kernel/secret.ts';
import type { BmcEndpoint } from './bmc.ts';
import { CommandQueue } from './command-queue.ts';
import { chassisControl, chassisStatus } from './ipmi/commands.ts';
import { IpmitoolTransport } from './ipmitool.ts';

test('the password reaches ipmitool by its environment and is in no argument', async (t) => {
  const { transport, said } = await fakeIpmitool(t, 'echo " 21 00 40"');
  t.strictSame(await transport.request(chassisStatus().request, never), Buffer.from('210040', 'hex'));
  t.notMatch(await said('arguments'), /hush-hush/);
  t.match(await said('environment'), /^IPMITOOL_PASSWORD=hush-hush$/m);
  t.match(
    await said('arguments'),
    '-I lanplus -H 192.0.2.9 -p 623 -U admin -E -C 17 -L ADMINISTRATOR -N 1 -R 4 -v raw 0x0 0x1',
  );
});

test('a reset is asked once, and waited for as long as others in all', async (t) => {
  const { transport, said } = await fakeIpmitool(t, 'true');
  await transport.request(chassisControl('reset').request, never);
  t.match(await said('arguments'), '-N 4 -R 1 -v raw 0x0 0x2 0x3');
});

// What ipmitool 1.8.19 writes before it exits with 1.
const complaints = {
  'RAKP 2 message indicates an error : unauthorized name': 'bmc.auth',
  '> RAKP 2 HMAC is invalid': 'bmc.auth',
  'Error in open session response message : invalid authentication algorithm': 'bmc.auth',
  'Error in open session response message : no matching cipher suite': 'bmc.auth',
  'Error in open session response message : insufficient resources for session': 'bmc.busy',
  'Unable to send RAW command (channel=0x0 netfn=0x0 lun=0x0 cmd=0x1 rsp=0xc0): Node busy': 'bmc.busy',
  'Unable to send RAW command (channel=0x0 netfn=0x0 lun=0x0 cmd=0x1 rsp=0xd5): Not now': 'bmc.refused',
  'Get Auth Capabilities error': 'bmc.unreachable',
  'something nobody has seen': 'bmc.unreachable',
};
for (const [complaint, code] of Object.entries(complaints)) {
  test(`"${complaint}" is ${code}`, async (t) => {
    const { transport } = await fakeIpmitool(t, `echo '${complaint}' >&2; exit 1`);
    await t.rejects(transport.request(chassisStatus().request, never), { code, message: /192\.0\.2\.9:623/ });
  });
}

test('an aborted call ends its process', async (t) => {
  const { transport, said } = await fakeIpmitool(t, 'echo $$ >pid; exec /bin/sleep 60');
  const abort = new AbortController();
  const call = transport.request(chassisStatus().request, abort.signal);
  const pid = Number(await until('the fake ipmitool runs', 5_000, () => said('pid').catch(() => '')));
  abort.abort(new Error('enough'));
  await t.rejects(call, { message: 'enough' });
  t.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
});

test('without ipmitool on the machine, that is what is said', async (t) => {
  const { transport, directory } = await fakeIpmitool(t, 'true');
  await rm(join(directory, 'ipmitool'));
  await t.rejects(transport.request(chassisStatus().request, never), { code: 'host.missing', message: /ipmitool/ });
});

const never = new AbortController().signal;

// A program of that name, the only one in the search path: it writes down how it was called, then does as the test says.
async function fakeIpmitool(t: Test, action: string) {
  const directory = await mkdtemp(join(tmpdir(), 'rs-ipmitool-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const notes = `cd ${directory} && echo "$*" >arguments && /usr/bin/env >environment`;
  await writeFile(join(directory, 'ipmitool'), `#!/bin/sh\n${notes}\n${action}\n`, { mode: 0o755 });
  const path = process.env['PATH'];
  process.env['PATH'] = directory;
  t.teardown(() => (process.env['PATH'] = path));

  const endpoint: BmcEndpoint = {
    ...{ kind: 'ipmitool', address: '192.0.2.9', port: 623, cipherSuite: 17 },
    ...{ username: 'admin', password: new Secret('hush-hush') },
  };
  const queue = new CommandQueue(systemClock, { burst: 10, perSecond: 10 });
  const patience = { eachSeconds: 1, times: 4 };
  const transport = new IpmitoolTransport(endpoint, {
    clock: systemClock,
    onCommand: () => undefined,
    queue,
    patience,
  });
  return { transport, directory, said: (file: string) => readFile(join(directory, file), 'utf8') };
}
