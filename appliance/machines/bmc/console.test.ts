import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { test } from 'tap';
import type { Test } from 'tap';

import { startIpmiSim } from '../../../lab/bmc/ipmi-sim.ts';
import { until } from '../../../lab/process/until.ts';
import { startBmcServer } from '../../../lab/sim/bmc-server.ts';
import { simulatedMachine } from '../../../lab/sim/bmc-server-machine.ts';
import { SerialPort } from '../../../lab/sim/bmc-server-sol.ts';
import { systemClock } from '../../kernel/clock.ts';
import type { Clock } from '../../kernel/clock.ts';
import { asRackstartError } from '../../kernel/errors.ts';
import { createIds } from '../../kernel/ids.ts';
import { ManualClock } from '../../kernel/manual-clock.ts';
import { Secret } from '../../kernel/secret.ts';
import type { BmcEndpoint } from './bmc.ts';
import { followConsole } from './console.ts';

const run = promisify(execFile);
const missing = ['/usr/bin/ipmi_sim', '/usr/bin/ipmitool'].find((path) => !existsSync(path));
const skip = missing === undefined ? false : `${missing} is missing: apt-get install openipmi ipmitool`;

for (const cipherSuite of [3, 17] as const) {
  test(`what a machine prints is heard with cipher suite ${cipherSuite}, once and in order, whatever gets lost`, async (t) => {
    const { server, serial, endpoint } = await simulated(t);
    const console = follow(t, { ...endpoint, cipherSuite });
    await ready(serial, console);
    Object.assign(server.faults, { dropAnswer: (index: number) => index % 3 === 1, duplicate: true });
    const said = Array.from({ length: 200 }, (_, index) => `line ${index}\r\n`).join('');
    serial.print(said);
    await until('the last line', 15_000, () => console.heard().includes('line 199\r\n'));
    t.equal(console.heard().slice(-said.length), said);
    t.strictSame(serial.typed, [], 'we type nothing');
    await console.stop();
    t.equal(console.outcome(), 'aborted');
    await until('the session to end', 15_000, () => server.sessions === 0);
  });
}

test("ipmi_sim's console is heard, and left for the next who wants it", { skip }, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'rs-console-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const machine = await serialFeed(t);
  const sim = await startIpmiSim({
    ...{ address: '127.0.0.1', port: 0, username: 'admin', password: 'secret12' },
    directory,
    name: 'bmc',
    serialTcpPort: machine.port,
  });
  t.teardown(() => sim.stop());
  for (const round of [1, 2]) {
    const console = follow(t, endpointAt(sim.port, 3));
    await until('the console', 15_000, () => {
      machine.print(`boot ${round}\r\n`);
      return console.heard().includes(`boot ${round}`);
    });
    const said = `${'0123456789'.repeat(300)}\r\nend ${round}\r\n`;
    machine.print(said);
    await until('all of it', 15_000, () => console.heard().includes(`end ${round}\r\n`));
    t.ok(console.heard().endsWith(said));
    await console.stop();
  }
});

test('a console that somebody else has is not taken from him', async (t) => {
  const { serial, endpoint } = await simulated(t);
  const first = follow(t, endpoint);
  await ready(serial, first);
  const second = follow(t, endpoint);
  await second.ended;
  t.equal(second.outcome(), 'bmc.busy');
  serial.print('still here');
  await until('it', 15_000, () => first.heard().includes('still here'));
});

test('a BMC whose machine has no serial port has no console', async (t) => {
  const { endpoint, server } = await simulated(t, { wired: false });
  const console = follow(t, endpoint);
  await console.ended;
  t.equal(console.outcome(), 'absent');
  await until('the session to end', 15_000, () => server.sessions === 0);
});

test('whoever takes the console away from us has it', { skip }, async (t) => {
  const { serial, endpoint } = await simulated(t);
  const console = follow(t, endpoint);
  await ready(serial, console);
  const access = ['-I', 'lanplus', '-H', '127.0.0.1', '-p', String(endpoint.port), '-C', '17', '-U', 'admin'];
  await run('ipmitool', [...access, '-P', 'secret12', 'sol', 'deactivate']);
  await console.ended;
  t.equal(console.outcome(), 'ended');
});

test('a silent console is kept alive, and a BMC that has gone is noticed', async (t) => {
  const clock = new ManualClock();
  const { serial, endpoint, server } = await simulated(t);
  const console = follow(t, endpoint, clock);
  await ready(serial, console);
  let heard = 0;
  server.faults.hung = () => heard++ === -1; // hears, and counts
  await clock.advance(20_000);
  await until('the sign of life', 15_000, () => heard > 0);
  server.faults.hung = true;
  const gone = until('its end', 15_000, async () => {
    await clock.advance(1_000);
    return console.outcome();
  });
  t.equal(await gone, 'bmc.unreachable');
});

const ABORTED = new Error('nobody listens any more');

/** A console that is followed until it ends or `stop` is called. */
function follow(t: Test, endpoint: BmcEndpoint, clock: Clock = systemClock) {
  const stopping = new AbortController();
  let [heard, outcome] = ['', ''];
  const deps = { clock, ids: createIds(systemClock), patience: { each: 500, times: 6 } };
  const ended = followConsole(endpoint, deps, (characters) => (heard += characters.toString()), stopping.signal).then(
    (how) => (outcome = how),
    (error: unknown) => (outcome = error === ABORTED ? 'aborted' : asRackstartError(error).code),
  );
  const stop = async () => {
    stopping.abort(ABORTED);
    await ended;
  };
  t.teardown(stop);
  return { heard: () => heard, outcome: () => outcome, ended, stop };
}

async function simulated(t: Test, { wired = true } = {}) {
  const { chassis } = simulatedMachine();
  const serial = new SerialPort();
  const server = await startBmcServer({
    ...{ address: '127.0.0.1', port: 0, username: 'admin', password: 'secret12' },
    chassis: wired ? { ...chassis, serial } : chassis,
  });
  t.teardown(() => server.stop());
  return { server, serial, endpoint: endpointAt(server.port, 17) };
}

async function ready(serial: SerialPort, { heard }: { heard: () => string }): Promise<void> {
  await until('the console', 15_000, () => {
    serial.print('ready? ');
    return heard().includes('ready? ');
  });
}

function endpointAt(port: number, cipherSuite: 3 | 17): BmcEndpoint {
  const password = new Secret('secret12');
  return { kind: 'ipmi', address: '127.0.0.1', port, username: 'admin', password, cipherSuite };
}

/** The serial port that `ipmi_sim` connects to. */
async function serialFeed(t: Test) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    sockets.forEach((socket) => socket.destroy());
    server.close();
  });
  const print = (text: string) => sockets.forEach((socket) => socket.write(text));
  return { port: (server.address() as AddressInfo).port, print };
}
