import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { Test } from 'tap';

import { fakeMachine } from '../../../lab/bmc/fake-machine.ts';
import { startIpmiSim } from '../../../lab/bmc/ipmi-sim.ts';
import { startBmcServer } from '../../../lab/sim/bmc-server.ts';
import { simulatedMachine } from '../../../lab/sim/bmc-server-machine.ts';
import { systemClock } from '../../kernel/clock.ts';
import { createIds } from '../../kernel/ids.ts';
import { silentLog } from '../../kernel/log.ts';
import { Secret } from '../../kernel/secret.ts';
import type { BmcCommandRecord, BmcEndpoint } from './bmc.ts';
import { proveBmc } from './bmc-proof.ts';
import type { BmcRig } from './bmc-proof.ts';
import { CommandQueue } from './command-queue.ts';
import type { IpmiRequest } from './ipmi/message.ts';
import { SessionTransport } from './ipmi/session-transport.ts';
import { openBmc } from './open-bmc.ts';
import type { BmcTiming } from './open-bmc.ts';

const missing = ['/usr/bin/ipmi_sim', '/usr/bin/ipmitool'].find((path) => !existsSync(path));
const skip = missing === undefined ? false : `${missing} is missing: apt-get install openipmi ipmitool`;

// Asked once: on a busy machine a question asked again would be a command carried out twice.
const timing: BmcTiming = {
  patience: { each: 1_000, times: 1 },
  rate: { burst: 1_000, perSecond: 1_000 },
  powerDeadline: 200,
};

proveBmc('our IPMI client, suite 3', skip, (t) => ipmiSimRig(t, 'ipmi'));
proveBmc('our IPMI client, suite 17', false, (t) => bmcServerRig(t, 17));
proveBmc('ipmitool, suite 3', skip, (t) => ipmiSimRig(t, 'ipmitool'));

for (const kind of ['ipmi', 'ipmitool'] as const) {
  test(`${kind}: a BMC that does not know the cipher suite is named with the suite`, { skip }, async (t) => {
    const rig = await ipmiSimRig(t, kind);
    const bmc = rig.open({ cipherSuite: 17 });
    t.teardown(() => bmc.close());
    const message = /^BMC 127\.0\.0\.1:\d+ does not offer cipher suite 17$/;
    await t.rejects(bmc.power(new AbortController().signal), { code: 'bmc.auth', message });
  });
}

async function ipmiSimRig(t: Test, kind: BmcEndpoint['kind']): Promise<BmcRig> {
  const directory = await mkdtemp(join(tmpdir(), 'rs-bmc-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const machine = await fakeMachine(join(directory, 'machine'));
  const { chassisControl } = machine;
  const login = { address: '127.0.0.1', username: 'admin' };
  const password = 'secret12';
  const start = (port: number) => startIpmiSim({ ...login, port, password, directory, name: 'bmc', chassisControl });

  let simulator = await start(0);
  const { port } = simulator;
  t.teardown(() => simulator.stop());
  return {
    ...implementation({ ...login, port, kind, password: new Secret(password), cipherSuite: 3 }),
    machine,
    startWatchdog: undefined,
    stop: () => simulator.stop(),
    start: async () => {
      simulator = await start(port);
    },
  };
}

// ipmi_sim knows no SHA-256; this peer was shown right by ipmitool first (bmc-server.test.ts).
async function bmcServerRig(t: Test, cipherSuite: 3 | 17): Promise<BmcRig> {
  const machine = simulatedMachine();
  const { chassis } = machine;
  const login = { address: '127.0.0.1', username: 'admin' };
  const password = 'secret12';
  const start = (port: number) => startBmcServer({ ...login, password, port, chassis });

  let server = await start(0);
  const { port } = server;
  t.teardown(() => server.stop());
  return {
    ...implementation({ ...login, port, kind: 'ipmi', password: new Secret(password), cipherSuite }),
    machine,
    stop: () => server.stop(),
    start: async () => {
      server = await start(port);
    },
  };
}

function implementation(endpoint: BmcEndpoint): Pick<BmcRig, 'open' | 'record' | 'records' | 'startWatchdog'> {
  const records: BmcCommandRecord[] = [];
  const onCommand = (record: BmcCommandRecord) => records.push(record);
  const deps = { clock: systemClock, ids: createIds(systemClock), log: silentLog, onCommand, timing };
  const tell = async (...requests: IpmiRequest[]) => {
    const { patience, rate } = timing;
    const queue = new CommandQueue(systemClock, rate);
    const transport = new SessionTransport(endpoint, { ...deps, onCommand: () => undefined, patience, queue });
    try {
      for (const request of requests) await transport.request(request, new AbortController().signal);
    } finally {
      await transport.close();
    }
  };
  const add = { name: 'Add SEL Entry', netFn: 0x0a, cmd: 0x44, repeatable: false };
  const record = (...events: string[]) =>
    tell(...events.map((event) => ({ ...add, data: Buffer.from(`00000200000000${event}`, 'hex') })));
  const start = { name: 'Reset Watchdog Timer', netFn: 0x06, cmd: 0x22, data: Buffer.alloc(0), repeatable: false };
  return {
    open: (changes) => openBmc({ ...endpoint, ...changes }, deps),
    ...{ record, records, startWatchdog: () => tell(start) },
  };
}
