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

function pair(): [SecureChannel, SecureChannel] {
  return [channelBetween(7, 9), channelBetween(9, 7)];
}

function channelBetween(localId: number, remoteId: number): SecureChannel {
  const keys = { k1: createSecretKey(Buffer.alloc(32, 1)), k2: createSecretKey(Buffer.alloc(16, 2)) };
  return new SecureChannel(cipherSuite(17), keys, localId, remoteId, createIds(systemClock));
}
