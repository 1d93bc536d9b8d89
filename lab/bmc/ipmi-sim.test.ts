import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { test } from 'tap';
import type { Test } from 'tap';

import { fakeMachine } from './fake-machine.ts';
import { startIpmiSim } from './ipmi-sim.ts';
import type { IpmiSimOptions } from './ipmi-sim.ts';

const run = promisify(execFile);
const missing = ['/usr/bin/ipmi_sim', '/usr/bin/ipmitool'].find((path) => !existsSync(path));
const skip = missing === undefined ? false : `${missing} is missing: apt-get install openipmi ipmitool`;

test('ipmi_sim switches the machine through its chassis program', { skip }, async (t) => {
  const options = await bmcOptions(t);
  const bmc = await startIpmiSim(options);
  t.teardown(() => bmc.stop());
  const there = { ...options, port: bmc.port };
  t.match(await ipmitool(there, 'chassis', 'power', 'status'), 'Chassis Power is off');
  await ipmitool(there, 'chassis', 'power', 'on');
  t.match(await ipmitool(there, 'chassis', 'power', 'status'), 'Chassis Power is on');
});

test('a BMC that is stopped is gone, and its port is free for the next one', { skip }, async (t) => {
  const options = await bmcOptions(t);
  const first = await startIpmiSim(options);
  const { port } = first;
  await first.stop();
  await first.stop();
  t.throws(() => process.kill(first.pid, 0), { code: 'ESRCH' });
  const again = { ...options, port, password: 'another1' };
  const second = await startIpmiSim(again);
  t.teardown(() => second.stop());
  t.match(await ipmitool(again, 'mc', 'info'), /Firmware Revision\s+: 9\.08/);
});

test('a BMC that cannot listen says so instead of leaving the caller waiting', { skip }, async (t) => {
  const options = await bmcOptions(t);
  const start = startIpmiSim({ ...options, address: '192.0.2.1' });
  await t.rejects(start, { message: /^BMC bmc did not start: .*Cannot assign requested address/s });
});

test('two BMCs cannot share one address', { skip }, async (t) => {
  const options = await bmcOptions(t);
  const first = await startIpmiSim(options);
  t.teardown(() => first.stop());
  const { port } = first;
  await t.rejects(startIpmiSim({ ...options, port, name: 'other' }), { message: `127.0.0.1:${port} is in use` });
});

test('a BMC can stand in another network namespace', { skip: skip || notRoot() }, async (t) => {
  const netns = `rs-ipmi-sim-${process.pid}`;
  await run('ip', ['netns', 'add', netns]);
  t.teardown(() => run('ip', ['netns', 'delete', netns]));
  await run('ip', ['-n', netns, 'link', 'set', 'lo', 'up']);
  const options = { ...(await bmcOptions(t)), port: 623, netns };
  const bmc = await startIpmiSim(options);
  t.teardown(() => bmc.stop());
  const tool = ['-I', 'lanplus', '-C', '3', '-H', options.address, '-p', String(options.port), '-U', options.username];
  const inside = ['netns', 'exec', netns, 'ipmitool', ...tool, '-P', options.password, 'power', 'status'];
  t.match((await run('ip', inside)).stdout, 'Chassis Power is off');
});

function notRoot(): string | false {
  return process.getuid?.() === 0 ? false : 'only root may create a network namespace';
}

async function bmcOptions(t: Test): Promise<IpmiSimOptions> {
  const directory = await mkdtemp(join(tmpdir(), 'rs-ipmi-sim-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const { chassisControl } = await fakeMachine(join(directory, 'machine'));
  const login = { username: 'admin', password: 'secret12' };
  return { directory, name: 'bmc', address: '127.0.0.1', port: 0, ...login, chassisControl };
}

async function ipmitool({ address, port, username, password }: IpmiSimOptions, ...command: string[]): Promise<string> {
  const peer = ['-I', 'lanplus', '-C', '3', '-H', address, '-p', String(port), '-U', username, '-P', password];
  return (await run('ipmitool', [...peer, ...command])).stdout;
}
