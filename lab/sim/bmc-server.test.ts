import { execFile } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { test } from 'tap';
import type { Test } from 'tap';

import { startBmcServer } from './bmc-server.ts';
import type { BmcFaults, BmcServer } from './bmc-server.ts';
import { simulatedMachine } from './bmc-server-machine.ts';

const run = promisify(execFile);
const skip = existsSync('/usr/bin/ipmitool') ? false : 'ipmitool is missing: apt-get install ipmitool';

for (const suite of [3, 17]) {
  test(`ipmitool finds the BMC right with cipher suite ${suite}`, { skip }, async (t) => {
    const { server, machine } = await start(t);
    const tool = (...command: string[]) => ipmitool(server, suite, 'secret12', command);
    t.match(await tool('power', 'status'), 'Chassis Power is off');
    await tool('power', 'on');
    t.match(await tool('power', 'status'), 'Chassis Power is on');
    await tool('power', 'reset');
    await tool('power', 'off');
    t.match(await tool('mc', 'info'), /Firmware Revision\s+: 9\.08[\s\S]*Manufacturer ID\s+: 4753/);
    await tool('chassis', 'bootdev', 'pxe', 'options=efiboot');
    t.match(await tool('chassis', 'bootparam', 'get', '5'), /Force PXE/);
    t.strictSame(await machine.told(), ['power 1', 'reset 1', 'power 0', 'boot pxe']);
  });

  test(`ipmitool is refused with a wrong password and cipher suite ${suite}`, { skip }, async (t) => {
    const { server } = await start(t);
    t.match(await complaint(ipmitool(server, suite, 'wrong', ['power', 'status'])), 'RAKP 2 HMAC is invalid');
  });
}

test('there is no session without signature and encryption', { skip }, async (t) => {
  const { server } = await start(t);
  t.match(await complaint(ipmitool(server, 0, 'secret12', ['power', 'status'])), 'no matching cipher suite');
});

test('a lost answer is given again when asked again', { skip }, async (t) => {
  const { server } = await start(t, { dropAnswer: (index) => index === 0 });
  t.match(await ipmitool(server, 17, 'secret12', ['power', 'status']), 'Chassis Power is off');
});

test('garbage gets no answer and ends nothing', { skip }, async (t) => {
  const { server } = await start(t);
  const socket = createSocket('udp4');
  t.teardown(() => socket.close());
  const answered: string[] = [];
  socket.on('message', (packet) => answered.push(packet.toString('hex')));
  const whole = Buffer.from('0600ff0706c0' + 'aabbccdd' + '01000000' + '2000' + '00'.repeat(48), 'hex');
  const cuts = Array.from({ length: whole.length + 1 }, (_, length) => whole.subarray(0, length));
  const openings = [0x10, 0x12, 0x14].map((type) => Buffer.from([6, 0, 255, 7, 6, type, ...Buffer.alloc(8), 4, 0]));
  for (const packet of [...cuts, ...openings]) await sent(socket, packet, server.port);
  t.match(await ipmitool(server, 3, 'secret12', ['power', 'status']), 'Chassis Power is off');
  t.strictSame(answered, []);
});

async function start(t: Test, faults: BmcFaults = {}) {
  const machine = simulatedMachine();
  const login = { address: '127.0.0.1', port: 0, username: 'admin', password: 'secret12' };
  const server = await startBmcServer({ ...login, chassis: machine.chassis, faults });
  t.teardown(() => server.stop());
  return { server, machine };
}

async function ipmitool(server: BmcServer, suite: number, password: string, command: string[]): Promise<string> {
  const peer = ['-I', 'lanplus', '-H', '127.0.0.1', '-p', String(server.port), '-C', String(suite), '-v', '-N', '1'];
  return (await run('ipmitool', [...peer, '-U', 'admin', '-P', password, ...command])).stdout;
}

async function complaint(failing: Promise<string>): Promise<string> {
  return failing.then(
    () => 'nothing failed',
    (error: unknown) => (error as { stderr: string }).stderr,
  );
}

async function sent(socket: ReturnType<typeof createSocket>, packet: Buffer, port: number): Promise<void> {
  socket.send(packet, port, '127.0.0.1', () => socket.emit('flushed'));
  await once(socket, 'flushed');
}
