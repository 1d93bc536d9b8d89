import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'tap';
import type { Test } from 'tap';

import { startUdpProxy } from '../../../../lab/loss/udp-proxy.ts';
import { until } from '../../../../lab/process/until.ts';
import { startBmcServer } from '../../../../lab/sim/bmc-server.ts';
import type { BmcFaults } from '../../../../lab/sim/bmc-server.ts';
import { simulatedMachine } from '../../../../lab/sim/bmc-server-machine.ts';
import { systemClock } from '../../../kernel/clock.ts';
import type { Clock } from '../../../kernel/clock.ts';
import { createIds } from '../../../kernel/ids.ts';
import { silentLog } from '../../../kernel/log.ts';
import { ManualClock } from '../../../kernel/manual-clock.ts';
import { Secret } from '../../../kernel/secret.ts';
import type { Bmc, BmcCommandRecord, BmcEndpoint } from '../bmc.ts';
import { openBmc } from '../open-bmc.ts';
import type { Patience } from './bmc-socket.ts';

test('garbage, cut packets and changed answers are ignored, and nothing has to be asked twice', async (t) => {
  const { port, machine } = await startServer(t);
  const relay = startUdpProxy({ server: { port }, rewrite: (answer) => [...garbage(answer), answer] });
  t.teardown(() => relay.stop());
  const bmc = client(t, relay.port, { clock: new ManualClock() }); // no time passes: what got lost would be lost for good
  await bmc.setPower('on', never);
  await bmc.bootOnceAndReset('pxe', never);
  t.strictSame(await machine.told(), ['power 1', 'boot pxe', 'reset 1']);
  t.equal(relay.heard(), LOGIN_PACKETS + SET_POWER_PACKETS + BOOT_AND_RESET_PACKETS);
});

test('an answer that was heard before is not believed again, when its number comes round or is forged', async (t) => {
  const { port } = await startServer(t);
  const recorded: Buffer[] = [];
  let replaying = false;
  const rewrite = (answer: Buffer) => {
    if (replaying) return [...recorded, ...recorded.map((old, index) => renumbered(old, answer, index)), answer];
    if (answer[5] === 0xc0 && recorded.length < 64) recorded.push(answer); // one for each number, and no login
    return [answer];
  };
  const relay = startUdpProxy({ server: { port }, rewrite });
  t.teardown(() => relay.stop());
  const bmc = client(t, relay.port);
  await bmc.setPower('on', never);
  for (let reading = 0; reading < 64; reading++) await bmc.power(never);
  await bmc.setPower('off', never);
  replaying = true;
  for (let reading = 0; reading < 64; reading++) t.equal(await bmc.power(never), 'off');
});

test('a command whose answer is lost is asked again', async (t) => {
  const { port, machine } = await startServer(t, { dropAnswer: (index) => index % 2 === 0 });
  const bmc = client(t, port);
  await bmc.setPower('on', never);
  await bmc.bootOnce('pxe', never);
  t.equal(await machine.power(), 'on');
  t.equal(await machine.bootDevice(), 'pxe');
});

test('a reset whose answer is lost is not sent again, and the caller is told', async (t) => {
  let lossy = true;
  let losing = false; // from the command before the reset on
  const { port, machine } = await startServer(t, { dropAnswer: () => losing });
  const onCommand = ({ command }: BmcCommandRecord) => (losing = lossy && command === 'Get System Boot Options');
  const bmc = client(t, port, { onCommand, patience: { each: 800, times: 1 } });
  await bmc.setPower('on', never);
  await t.rejects(bmc.bootOnceAndReset('pxe', never), { code: 'bmc.unreachable', transient: true });
  t.strictSame(await machine.told(), ['power 1', 'boot pxe', 'reset 1']);
  lossy = false;
  await bmc.bootOnceAndReset('pxe', never);
  t.strictSame(await machine.told(), ['boot pxe', 'reset 1'], 'the next try sets the device again');
});

test('answers that come twice, or late, answer no other question', async (t) => {
  const { port, machine, faults } = await startServer(t, { duplicate: true });
  const bmc = client(t, port);
  await bmc.setPower('on', never);
  faults.delayMs = PATIENCE.each + 30; // the second question is out when the first answer comes
  t.match(await bmc.identity(never), { productId: 0x0f02 });
  t.equal(await bmc.power(never), 'on');
  await bmc.bootOnce('disk', never);
  t.equal(await machine.bootDevice(), 'default');
});

test('a BMC that is busy may be asked again later; one that refuses says why', async (t) => {
  const { port, faults } = await startServer(t);
  const bmc = client(t, port);
  await bmc.power(never);
  faults.completionCode = 0xc0;
  await t.rejects(bmc.power(never), { code: 'bmc.busy', transient: true, details: { completionCode: 0xc0 } });
  faults.completionCode = 0xc1;
  const message = `BMC 127.0.0.1:${port} answered Get Chassis Status with 0xc1: invalid command`;
  await t.rejects(bmc.power(never), { code: 'bmc.refused', message, details: { completionCode: 0xc1 } });
});

test('a session nobody uses is kept alive before the BMC ends it', async (t) => {
  const { port } = await startServer(t);
  const clock = new ManualClock();
  const records: BmcCommandRecord[] = [];
  const told = Promise.withResolvers<undefined>();
  const bmc = client(t, port, {
    clock,
    onCommand: (record) => {
      records.push(record);
      if (record.command === 'Get Device ID') told.resolve(undefined);
    },
  });
  await bmc.power(never);
  await clock.advance(19_000);
  t.notOk(records.some(({ command }) => command === 'Get Device ID'));
  await clock.advance(1_000);
  await told.promise;
  t.equal(records.filter(({ command }) => command === 'Open Session').length, 1);
});

test('a BMC is told when its session is not needed any more', async (t) => {
  const { port } = await startServer(t);
  const relay = startUdpProxy({ server: { port } });
  t.teardown(() => relay.stop());
  const bmc = client(t, relay.port, { clock: new ManualClock() });
  await bmc.power(never);
  await bmc.close();
  await until('the farewell', 5_000, () => relay.heard() > LOGIN_PACKETS + 2);
  t.equal(relay.heard(), LOGIN_PACKETS + 2 + 1);
});

test('a session that may not be administrator is given back: a BMC has few', async (t) => {
  const { port, faults, sessions } = await startServer(t);
  const bmc = client(t, port);
  faults.completionCode = 0xd4;
  await t.rejects(bmc.power(never), { code: 'bmc.auth', message: /does not let admin be administrator/ });
  await until('the session to end', 5_000, () => sessions() === 0);
});

test('a BMC with its IPMI switched off is told from one that is not there', async (t) => {
  const socket = createSocket('udp4');
  socket.on('message', (packet, { port, address }) => {
    const tag = packet.subarray(9, 10).toString('hex');
    const pong = Buffer.from(`0600ff06000011be40${tag}0010000011be000000000100000000000000`, 'hex');
    if (packet[3] === 6) socket.send(pong, port, address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.teardown(() => socket.close());
  const bmc = client(t, socket.address().port);
  await t.rejects(bmc.power(never), { code: 'bmc.unreachable', details: { answersPing: true } });
});

test('names and passwords longer than IPMI has room for are refused before they are sent', async (t) => {
  const { port } = await startServer(t);
  for (const changes of [{ username: 'a'.repeat(17) }, { password: new Secret('a'.repeat(21)) }]) {
    await t.rejects(client(t, port, {}, changes).power(never), { code: 'bmc.auth', message: /at most \d\d bytes/ });
  }
});

test('a BMC is named by its address, never by a name to look up', async (t) => {
  await t.rejects(client(t, 623, {}, { address: 'localhost' }).power(never), { code: 'config.invalid' });
});

test('a UEFI machine is told to boot in UEFI mode', async (t) => {
  const { port, machine } = await startServer(t);
  await client(t, port, {}, { firmware: 'uefi' }).bootOnce('pxe', never);
  t.equal(machine.chassis.bootFlags().toString('hex'), 'a004000000');
  await client(t, port, {}, { firmware: 'bios' }).bootOnce('disk', never);
  t.equal(machine.chassis.bootFlags().toString('hex'), '8008000000');
});

const never = new AbortController().signal;
const PATIENCE = { each: 100, times: 4 };

// Capabilities, open, RAKP 1 and 3, privilege.
const LOGIN_PACKETS = 5;
// Two readings before, the command, two readings after.
const SET_POWER_PACKETS = 5;
// Two readings, acknowledge, flags, read-back, reset, two readings.
const BOOT_AND_RESET_PACKETS = 8;

// Noise and cuts at every stage; changed bits only where a signature protects the answer. Login answers are not signed
// as a whole (§13.17 ff.): who stands on the path can make a login fail, not succeed.
function garbage(answer: Buffer): Buffer[] {
  const noise = [Buffer.alloc(0), randomBytes(1), randomBytes(20), randomBytes(200)];
  const cuts = Array.from({ length: answer.length }, (_, length) => answer.subarray(0, length));
  if (answer[5] !== 0xc0) return [...noise, ...cuts];
  const changed = Array.from({ length: answer.length - 6 }, (_, index) => {
    const copy = Buffer.from(answer);
    copy.writeUInt8(answer.readUInt8(6 + index) ^ 0x10, 6 + index);
    return copy;
  });
  const unsigned = Buffer.from(answer);
  unsigned[5] = 0x00;
  return [...noise, ...cuts, ...changed, unsigned];
}

// An old answer under a number that has not come yet: only the signature tells.
function renumbered(old: Buffer, current: Buffer, index: number): Buffer {
  const forged = Buffer.from(old);
  forged.writeUInt32LE(current.readUInt32LE(10) + 1 + index, 10);
  return forged;
}

async function startServer(t: Test, faults: BmcFaults = {}) {
  const machine = simulatedMachine();
  const login = { address: '127.0.0.1', port: 0, username: 'admin', password: 'secret12' };
  const server = await startBmcServer({ ...login, chassis: machine.chassis, faults });
  t.teardown(() => server.stop());
  return { port: server.port, faults: server.faults, sessions: () => server.sessions, machine };
}

interface Watching {
  clock?: Clock;
  patience?: Patience;
  onCommand?: (record: BmcCommandRecord) => void;
}

function client(t: Test, port: number, watching: Watching = {}, changes: Partial<BmcEndpoint> = {}): Bmc {
  const login = { username: 'admin', password: new Secret('secret12'), cipherSuite: 17 } as const;
  const { clock, onCommand, patience = PATIENCE } = watching;
  const timing = { patience, rate: { burst: 1_000, perSecond: 1_000 }, powerDeadline: 300 };
  const bmc = openBmc(
    { kind: 'ipmi', address: '127.0.0.1', port, ...login, ...changes },
    {
      clock: clock ?? systemClock,
      ids: createIds(systemClock),
      log: silentLog,
      onCommand: onCommand ?? (() => undefined),
      timing,
    },
  );
  t.teardown(() => bmc.close());
  return bmc;
}
