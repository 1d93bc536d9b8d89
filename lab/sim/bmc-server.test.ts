import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { test } from 'tap';
import type { Test } from 'tap';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { until } from '../process/until.ts';
import { startBmcServer } from './bmc-server.ts';
import type { BmcServer, BmcServerOptions } from './bmc-server.ts';
import { Mishaps, seededBmcFaults } from './bmc-server-faults.ts';
import type { BmcFaults } from './bmc-server-faults.ts';
import { simulatedMachine } from './bmc-server-machine.ts';
import { SerialPort } from './bmc-server-sol.ts';

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

  test(`ipmitool reads sensors and thresholds with cipher suite ${suite}`, { skip }, async (t) => {
    const { server, machine } = await start(t);
    const tool = (...command: string[]) => ipmitool(server, suite, 'secret12', command);
    const off = await tool('sdr', 'list');
    t.match(off, /Inlet Temp +\| 22 degrees C +\| ok/);
    t.match(off, /Fan 1 +\| no reading +\| ns/, 'a fan of a machine that is off');
    machine.chassis.setPower(true);
    const on = await tool('sensor', 'list');
    t.match(on, /CPU Temp +\| 51\.000 +\| degrees C +\| ok +\| na +\| na +\| na +\| 90\.000 +\| 98\.000/);
    t.match(on, /Fan 2 +\| 5200\.000 +\| RPM +\| ok +\| na +\| 800\.000 +\| 1200\.000/);
    t.match(on, /PSU 1 +\| 180\.000 +\| Watts +\| ok/);
  });

  test(`ipmitool reads, fills and clears the event log with cipher suite ${suite}`, { skip }, async (t) => {
    const clock = new ManualClock();
    const { server } = await start(t, {}, { clock });
    const tool = (...command: string[]) => ipmitool(server, suite, 'secret12', command);
    await tool('power', 'on');
    await tool('power', 'on');
    const added = '0x00 0x00 0x02 0 0 0 0 0x20 0x00 0x04 0x01 0x01 0x01 0x59 0x00 0x00';
    t.match(await tool('raw', '0x0a', '0x44', ...added.split(' ')), '02 00');
    const log = await tool('sel', 'list');
    t.match(log, /1 \| 01\/01\/26 .*\| Power Unit #0x01 \| Power off\/down \| Deasserted/);
    t.match(log, /2 \| .* \| Temperature #0x01 \| Upper Critical going high \| Asserted/);
    t.match(await tool('sel', 'info'), /Entries +: 2\n/);
    await tool('sel', 'clear');
    t.match(await tool('sel', 'info'), /Entries +: 0\n/);
  });

  test(`ipmitool sets, starts and reads the watchdog timer with cipher suite ${suite}`, { skip }, async (t) => {
    const clock = new ManualClock();
    const { server, machine } = await start(t, {}, { clock });
    const tool = (...command: string[]) => ipmitool(server, suite, 'secret12', command);
    const set = '0x06 0x24 4 1 0 0x10 50 0'.split(' ');
    t.match(await complaint(tool('raw', '0x06', '0x22')), 'rsp=0x80', 'one that was never set');
    await tool('power', 'on');
    await tool('raw', ...set);
    t.match(
      await tool('mc', 'watchdog', 'get'),
      /Timer Use: +SMS\/OS[^]*Stopped[^]*Hard Reset[^]*Initial Countdown: +5\.0 sec/,
    );
    await tool('mc', 'watchdog', 'reset');
    await clock.advance(4_000);
    t.match(await tool('mc', 'watchdog', 'get'), /Started\/Running[^]*Present Countdown: +1\.0 sec/);
    await tool('mc', 'watchdog', 'reset');
    await clock.advance(4_000);
    t.notOk((await machine.told()).includes('reset 1'), 'kept up');
    await clock.advance(1_000);
    t.match(await machine.told(), ['reset 1']);
    t.equal((await tool('raw', '0x06', '0x25')).trim(), '04 01 00 10 32 00 32 00', 'that it fired is on record');
    await tool('raw', ...set);
    await tool('mc', 'watchdog', 'reset');
    await tool('mc', 'watchdog', 'off');
    await clock.advance(60_000);
    t.strictSame(await machine.told(), []);
  });

  test(`ipmitool has the serial console with cipher suite ${suite}, whatever gets lost`, { skip }, async (t) => {
    const { server, serial } = await start(t);
    const peer = spawn('ipmitool', login(server, suite, 'secret12', ['sol', 'activate']), { stdio: 'pipe' });
    t.teardown(() => peer.kill());
    let shown = '';
    peer.stdout.on('data', (bytes: Buffer) => (shown += bytes.toString()));
    await consoleReady(serial, () => shown);
    Object.assign(server.faults, { dropAnswer: (index: number) => index % 3 === 1, duplicate: true });
    const lines = Array.from({ length: 25 }, (_, index) => `line ${index} of what the machine prints`);
    serial.print(lines.map((line) => `${line}\r\n`).join(''));
    await until('the last line', 15_000, () => shown.includes(lines.at(-1)!));
    t.strictSame(
      shown.split(/\r?\n/).filter((line) => line.startsWith('line')),
      lines,
    );
    Object.assign(server.faults, { dropAnswer: undefined, duplicate: false });
    peer.stdin.write('hello\n');
    await until('what was typed', 15_000, () => Buffer.concat(serial.typed).includes('hello\n'));
    t.equal(Buffer.concat(serial.typed).toString(), 'hello\n');

    t.match(await complaint(ipmitool(server, suite, 'secret12', ['sol', 'activate'])), 'already active');
    await ipmitool(server, suite, 'secret12', ['sol', 'deactivate']);
    serial.print('to nobody');
    await ipmitool(server, suite, 'secret12', ['power', 'status']);
    t.notMatch(shown, 'to nobody');
  });

  test(`ipmitool is refused with a wrong password and cipher suite ${suite}`, { skip }, async (t) => {
    const { server } = await start(t);
    t.match(await complaint(ipmitool(server, suite, 'wrong', ['-v', 'power', 'status'])), 'RAKP 2 HMAC is invalid');
  });
}

test('there is no session without signature and encryption', { skip }, async (t) => {
  const { server } = await start(t);
  t.match(await complaint(ipmitool(server, 0, 'secret12', ['-v', 'power', 'status'])), 'no matching cipher suite');
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

test('a machine without a serial port has no console', { skip }, async (t) => {
  const { server } = await start(t, {}, { chassis: simulatedMachine().chassis });
  t.match(await complaint(ipmitool(server, 17, 'secret12', ['sol', 'activate'])), 'SOL');
  t.match(await ipmitool(server, 17, 'secret12', ['raw', '6', '0x4e', '0x0e']), '01 00');
});

test('a BMC lies, forgets, is busy, obeys twice and hangs as it is told, while it runs', { skip }, async (t) => {
  const { server, machine } = await start(t);
  const tool = (...command: string[]) => ipmitool(server, 17, 'secret12', command);
  server.faults.liesAboutPower = true;
  t.match(await tool('power', 'status'), 'Chassis Power is on');
  server.faults.liesAboutPower = false;
  server.faults.runsTwice = true;
  await tool('power', 'on');
  t.strictSame(await machine.told(), ['power 1', 'power 1']);
  server.faults.runsTwice = false;
  server.faults.dropsBootFlags = true;
  await tool('chassis', 'bootdev', 'pxe');
  t.equal(await machine.bootDevice(), 'none');
  server.faults.completionCode = 0xc0;
  t.match(await complaint(tool('power', 'off')), 'Node busy');
  t.equal(await machine.power(), 'on');
  server.faults.completionCode = 0;
  let hangs = 0;
  server.faults.hung = () => hangs++ < 1;
  t.match(await tool('power', 'status'), 'Chassis Power is on', 'after a while it hears again');
  t.ok(hangs > 1);
});

test('a BMC has few sessions, and forgets them when its plug is pulled', { skip }, async (t) => {
  const { server, serial } = await start(t, {}, { sessions: 1 });
  const peer = spawn('ipmitool', login(server, 17, 'secret12', ['sol', 'activate']), { stdio: 'pipe' });
  t.teardown(() => peer.kill());
  let shown = '';
  peer.stdout.on('data', (bytes: Buffer) => (shown += bytes.toString()));
  await consoleReady(serial, () => shown);
  t.equal(server.sessions, 1);
  t.match(await complaint(ipmitool(server, 17, 'secret12', ['power', 'status'])), /insufficient resources/i);
  server.restart();
  t.equal(server.sessions, 0);
  serial.print('to nobody');
  t.match(await ipmitool(server, 17, 'secret12', ['power', 'status']), 'Chassis Power is off');
  t.notMatch(shown, 'to nobody');
});

test('seeded faults come at their rates, the same in every run', async (t) => {
  const rates = { lost: 0.2, doubled: 0.5, late: 0.1, lateMs: 40, busy: 0.3, twice: 0.05 };
  const run = () => {
    const mishaps = new Mishaps(seededBmcFaults(dice, rates, systemClock));
    return Array.from({ length: 2_000 }, () => ({ delays: mishaps.delays(), ...mishaps.command() }));
  };
  const first = run();
  t.strictSame(run(), first);
  const share = (holds: (one: (typeof first)[number]) => boolean) => first.filter(holds).length / first.length;
  t.match(share(({ delays }) => delays.length === 0).toFixed(1), '0.2');
  t.match(share(({ delays }) => delays.length === 2).toFixed(1), '0.4', 'half of those that are not lost');
  t.match(share(({ completionCode }) => completionCode === 0xc0).toFixed(1), '0.3');
  t.ok(share(({ times }) => times === 2) > 0.03);
  t.ok(first.every(({ delays }) => delays.every((delay) => delay <= 40)));
  t.notOk(first.some(({ liesAboutPower, dropsBootFlags }) => liesAboutPower || dropsBootFlags));
});

test('a BMC that hangs does so for its time', async (t) => {
  const clock = new ManualClock();
  const mishaps = new Mishaps(seededBmcFaults(() => 0.5, { hang: 0.6, hangMs: 1_000 }, clock));
  const well = new Mishaps(seededBmcFaults(() => 0.5, { hang: 0.4 }, clock));
  t.equal(well.isDeaf(), false);
  t.equal(mishaps.isDeaf(), true);
  await clock.advance(999);
  t.equal(mishaps.isDeaf(), true);
});

function dice(...names: readonly (string | number)[]): number {
  return createHash('sha256').update(names.join(' ')).digest().readUInt32BE() / 2 ** 32;
}

async function start(t: Test, faults: BmcFaults = {}, changes: Partial<BmcServerOptions> = {}) {
  const machine = simulatedMachine();
  const serial = new SerialPort();
  const access = { address: '127.0.0.1', port: 0, username: 'admin', password: 'secret12' };
  const chassis = { ...machine.chassis, serial };
  const server = await startBmcServer({ ...access, chassis, faults, ...changes });
  t.teardown(() => server.stop());
  return { server, machine, serial };
}

async function ipmitool(server: BmcServer, suite: number, password: string, command: string[]): Promise<string> {
  return (await run('ipmitool', login(server, suite, password, command))).stdout;
}

// What ipmitool itself says of its start waits in its buffer; what the machine prints does not.
async function consoleReady(serial: SerialPort, shown: () => string): Promise<void> {
  await until('the console', 15_000, () => {
    serial.print('ready?\r\n');
    return shown().includes('ready?');
  });
}

function login(server: BmcServer, suite: number, password: string, command: string[]): string[] {
  const peer = ['-I', 'lanplus', '-H', '127.0.0.1', '-p', String(server.port), '-C', String(suite), '-N', '1'];
  return [...peer, '-U', 'admin', '-P', password, ...command];
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
