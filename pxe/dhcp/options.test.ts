import { test } from 'tap';

import {
  option,
  readAddress,
  readArchitecture,
  readMachineUuid,
  readMaxMessageLength,
  readMessageType,
  readParameterList,
  readText,
  readUserClasses,
} from './options.ts';

test('a message type is one byte from 1 to 8', async (t) => {
  t.equal(readMessageType(one(option.messageType, '01')), 'discover');
  t.equal(readMessageType(one(option.messageType, '08')), 'inform');
  for (const wrong of ['', '00', '09', 'ff', '0101']) {
    t.equal(readMessageType(one(option.messageType, wrong)), undefined, wrong);
  }
  t.equal(readMessageType(new Map()), undefined);
});

test('an address is four bytes, and 0.0.0.0 is none', async (t) => {
  t.equal(readAddress(one(50, '0a4d00fe'), 50), '10.77.0.254');
  for (const wrong of ['', '00000000', '0a4d00', '0a4d000001']) t.equal(readAddress(one(50, wrong), 50), undefined);
});

test('a machine UUID is turned into the form that the running system shows', async (t) => {
  const wire = '0078563412bc9af0de1122334455667788';
  t.equal(readMachineUuid(one(97, wire)), '12345678-9abc-def0-1122-334455667788');
  t.equal(readMachineUuid(one(97, `01${wire.slice(2)}`)), undefined, 'another type');
  t.equal(readMachineUuid(one(97, wire.slice(0, -2))), undefined, 'too short');
  t.equal(readMachineUuid(one(97, `00${'00'.repeat(16)}`)), undefined, 'firmware without one');
  t.equal(readMachineUuid(one(97, `00${'ff'.repeat(16)}`)), undefined, 'firmware without one');
});

test('reading a UUID leaves the packet as it was, since it is sent back', async (t) => {
  const options = one(97, '0078563412bc9af0de1122334455667788');
  readMachineUuid(options);
  t.equal(Buffer.from(options.get(97)!).toString('hex'), '0078563412bc9af0de1122334455667788');
});

test('user classes are read raw, as iPXE sends them, and with lengths', async (t) => {
  const hex = (text: string) => Buffer.from(text).toString('hex');
  t.same(readUserClasses(one(77, hex('iPXE'))), ['iPXE']);
  t.same(readUserClasses(one(77, `04${hex('iPXE')}`)), ['iPXE']);
  t.same(readUserClasses(one(77, `03${hex('one')}04${hex('iPXE')}`)), ['one', 'iPXE']);
  t.same(readUserClasses(one(77, `05${hex('iPXE')}`)), ['\x05iPXE'], 'lengths that do not add up');
  t.same(readUserClasses(one(77, '')), []);
  t.same(readUserClasses(new Map()), []);
});

test('the first of several architectures counts', async (t) => {
  t.equal(readArchitecture(one(93, '0007')), 7);
  t.equal(readArchitecture(one(93, '00070000')), 7);
  for (const wrong of ['', '07', '000700']) t.equal(readArchitecture(one(93, wrong)), undefined);
});

test('text that a terminal could not show is none', async (t) => {
  const text = (bytes: string) => readText(one(12, bytes), 12);
  t.equal(text('686f7374'), 'host');
  t.equal(text('686f73740000'), 'host', 'some firmware appends zeros');
  for (const wrong of ['', '00', '1b5b324a', '686f00737400', 'c3a9', '61'.repeat(129)]) t.equal(text(wrong), undefined);
});

test('a parameter list names each option once', async (t) => {
  t.same(readParameterList(one(55, '030103')), [3, 1]);
  t.equal(readParameterList(new Map()), undefined);
});

test('a message is never longer than the client or the wire takes', async (t) => {
  t.equal(readMaxMessageLength(new Map()), 548);
  t.equal(readMaxMessageLength(one(57, '0001')), 548, 'every client must take 576');
  t.equal(readMaxMessageLength(one(57, '05c0')), 1444);
  t.equal(readMaxMessageLength(one(57, 'ffff')), 1472);
});

function one(code: number, hex: string): Map<number, Uint8Array> {
  return new Map([[code, Buffer.from(hex, 'hex')]]);
}
