import { createSecretKey, randomBytes } from 'node:crypto';
import { test } from 'tap';

import { systemClock } from '../../../kernel/clock.ts';
import { createIds } from '../../../kernel/ids.ts';
import { cipherSuite } from './cipher-suite.ts';
import * as commands from './commands.ts';
import { decodeResponse, encodeRequest } from './message.ts';
import * as rakp from './rakp.ts';
import * as rmcp from './rmcp.ts';
import { SecureChannel } from './secure-channel.ts';

test('no bytes whatever make a decoder throw', async (t) => {
  const suite = cipherSuite(17);
  const open = { suite, consoleId: 7 };
  const noise = Buffer.alloc(16);
  const login = { ...open, bmcId: 9, consoleRandom: noise, username: Buffer.from('admin'), password: Buffer.from('x') };
  const channel = channelBetween(7, 9);
  const decoders: ((bytes: Buffer) => unknown)[] = [
    decodeResponse,
    rmcp.decodeSessionless,
    rmcp.decodeSessionPacket,
    (bytes) => rmcp.isPong(bytes, 1),
    (bytes) => channel.open(bytes),
    (bytes) => rakp.decodeOpenResponse(bytes, 1, open),
    (bytes) => rakp.decodeRakp2(bytes, 1, login),
    (bytes) => rakp.decodeRakp4(bytes, 1, login, { bmcRandom: noise, guid: noise }),
    ...[commands.chassisStatus(), commands.getBootFlags(), commands.deviceId()].map(({ decode }) => decode),
    ...[commands.eventLogInfo(), commands.eventLogEntry(1)].map(({ decode }) => decode),
    commands.getWatchdog().decode,
    ...[commands.systemGuid(), commands.channelAuthCapabilities(), commands.consoleEnabled()].map(
      ({ decode }) => decode,
    ),
  ];
  // Right beginnings, so that the decoders get past their first look, and every length.
  const beginnings = ['', '0600ff07', '0600ff0706c0', '0600ff070600', '0600ff0700', '0600ff06', '0100', '81', '0105'];
  for (const beginning of beginnings) {
    for (let length = 0; length < 120; length++) {
      const bytes = Buffer.concat([Buffer.from(beginning, 'hex'), randomBytes(length)]);
      for (const decode of decoders) decode(bytes);
    }
  }
  t.pass('none threw');
});

test('what one side seals the other opens, whatever its length, and nobody else', async (t) => {
  const [console, bmc] = pair();
  t.strictSame(bmc.open(console.seal(Buffer.from('hello'))), { type: 0, message: Buffer.from('hello') });
  t.strictSame(bmc.open(console.seal(Buffer.from('hello'), 1)), { type: 1, message: Buffer.from('hello') });
  for (let length = 0; length < 40; length++) {
    const message = randomBytes(length);
    t.strictSame(bmc.open(console.seal(message))?.message, message);
  }
  t.equal(bmc.open(bmc.seal(Buffer.from('to another session'))), undefined);
});

test('the watchdog timer is read from the bits the specification names', async (t) => {
  const { decode } = commands.getWatchdog();
  const fed = { running: true, action: 'reset', fired: false, elapsed: 20_000 };
  t.strictSame(decode(Buffer.from('4401000058029001', 'hex')), fed, '40 of 60 s are left');
  t.match(decode(Buffer.from('c401000058025802', 'hex')), { running: true, elapsed: 0 }, 'one that logs nothing');
  t.match(decode(Buffer.from('04000010ffffffff', 'hex')), { running: false, action: 'none', fired: true, elapsed: 0 });
  t.match(
    decode(Buffer.from('4211000258029001', 'hex')),
    { action: 'reset', fired: false },
    "the firmware's flag is its own",
  );
  t.match(decode(Buffer.from('4403000058029001', 'hex')), { action: 'other' });
  t.match(decode(Buffer.from('4401000058025902', 'hex')), { elapsed: 0 }, 'no less than nothing');
  t.match(
    decode(Buffer.from('4301000058029001', 'hex')),
    { running: true, elapsed: 0 },
    'one that the firmware started',
  );
  t.equal(decode(Buffer.from('44010000580290', 'hex')), undefined);
  const asked = commands.setWatchdog('reset').request;
  t.match(asked, { netFn: 0x06, cmd: 0x24, data: Buffer.from('04010010ffff', 'hex') });
});

test('the power and the boot device are read from the bits the specification names', async (t) => {
  const { decode } = commands.chassisStatus();
  t.equal(decode(Buffer.from('21', 'hex')), 'on');
  t.equal(decode(Buffer.from('60', 'hex')), 'off');
  t.equal(decode(Buffer.alloc(0)), undefined);
  const flags = commands.getBootFlags().decode;
  t.strictSame(flags(Buffer.from('0105a004000000', 'hex')), { device: 'pxe', valid: true, efi: true });
  t.strictSame(flags(Buffer.from('01050008000000', 'hex')), { device: 'disk', valid: false, efi: false });
  t.match(flags(Buffer.from('01058014000000', 'hex')), { device: 'other' });
  t.equal(flags(Buffer.from('01858004000000', 'hex')), undefined, 'marked invalid by the BMC');
});

test('a message is laid out as ipmitool lays it out', async (t) => {
  const { request } = commands.channelAuthCapabilities();
  t.equal(
    rmcp.encodeSessionless(encodeRequest(request, 0)).toString('hex'),
    '0600ff07000000000000000000092018c88100388e04b5',
  );
});

test('an entry of the event log is a fault when its bytes say so, and nothing else is', async (t) => {
  // Next entry 8; entry 7, system event, time, BMC, revision 4; sensor type, sensor, event type, data.
  const entry = (rest: string, front = '0800070002') => Buffer.from(`${front}00000000200004${rest}`, 'hex');
  const { decode } = commands.eventLogEntry(7);
  for (const [rest, part, event] of [
    ['0c416f01ffff', 'memory', 'Uncorrectable ECC'],
    ['0c416fa10003', 'memory', 'Uncorrectable ECC'],
    ['07426f00ffff', 'processor', 'IERR'],
    ['07426f01ffff', 'processor', 'Thermal Trip'],
    ['08436f01ffff', 'power supply', 'Power Supply Failure detected'],
    ['0d446f01ffff', 'disk', 'Drive Fault'],
    ['0f456f00ffff', 'firmware', 'System Firmware Error (POST Error)'],
    ['0f456fc002ff', 'firmware', 'System Firmware Error (POST Error)'],
  ] as const) {
    const sensor = Number.parseInt(rest.slice(2, 4), 16);
    t.strictSame(decode(entry(rest)), { id: 7, next: 8, fault: { part, event, record: 7, sensor } }, rest);
  }
  for (const [what, rest] of [
    ['corrected memory', '0c416f00ffff'],
    ['a fault that went', '0c41ef01ffff'],
    ['a threshold of a memory sensor', '0c410101ffff'],
    ['progress of the firmware', '0f456f02ffff'],
    ['no keyboard', '0f456fc007ff'],
    ['mains that are lost', '08436f03ffff'],
    ['a type that nobody knows', 'ff436f01ffff'],
  ] as const) {
    t.strictSame(decode(entry(rest)), { id: 7, next: 8, fault: undefined }, what);
  }
  t.strictSame(decode(entry('0c416f01ffff', '08000700c0')), { id: 7, next: 8, fault: undefined }, "a vendor's own");
  for (const id of ['0000', 'ffff']) t.equal(decode(entry('0c416f01ffff', `0800${id}02`)), undefined, `entry ${id}`);
  t.equal(decode(entry('0c416f01ff')), undefined, 'cut short');
});

function pair(): [SecureChannel, SecureChannel] {
  return [channelBetween(7, 9), channelBetween(9, 7)];
}

function channelBetween(localId: number, remoteId: number): SecureChannel {
  const keys = { k1: createSecretKey(Buffer.alloc(32, 1)), k2: createSecretKey(Buffer.alloc(16, 2)) };
  return new SecureChannel(cipherSuite(17), keys, localId, remoteId, createIds(systemClock));
}
