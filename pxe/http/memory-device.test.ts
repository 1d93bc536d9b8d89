import { test } from 'tap';

import { memoryDevice } from './memory-device.fixture.ts';
import { readMemoryDevice } from './memory-device.ts';

test('a memory module is told with its slot, its size and its serial number', async (t) => {
  const texts = ['DIMM 0', 'P0 CHANNEL A', '8F0C1A'];
  const named = { bank: 2, serial: 3 };
  for (const [size, mib] of [
    [{ size: 16_384 }, 16_384],
    [{ size: 0x7fff, extended: 65_536 }, 65_536],
    [{ size: 0x7fff, extended: 0x8000_8000 }, 32_768],
    [{ size: 0x8000 | 2048 }, 2],
  ] as const) {
    t.same(readMemoryDevice(memoryDevice({ ...size, ...named }, texts)), {
      slot: 'P0 CHANNEL A DIMM 0',
      mib,
      serial: '8F0C1A',
    });
  }
});

test('an empty slot, and one of which the firmware does not know what is in it, are no modules', async (t) => {
  for (const size of [0, 0xffff]) t.equal(readMemoryDevice(memoryDevice({ size }, ['A1'])), undefined);
});

test('firmware that is older, and texts that are not there, tell less', async (t) => {
  const whole = memoryDevice({ size: 1024, bank: 9, serial: 2 }, ['A1', 'S1']);
  t.same(readMemoryDevice(whole), { slot: 'A1', mib: 1024, serial: 'S1' }, 'there is no ninth text');
  const old = Buffer.concat([whole.subarray(0, 0x15), whole.subarray(0x64)]);
  old.writeUInt8(0x15, 1);
  t.same(readMemoryDevice(old), { slot: 'A1', mib: 1024, serial: '' }, 'of SMBIOS 2.1');
  old.writeUInt16LE(0x7fff, 0x0c);
  t.equal(readMemoryDevice(old), undefined, 'which has no extended size');
});

test('texts hold what people can read, and no more of it than names are long', async (t) => {
  const texts = ['\u001b[2J|A1\u00e9', '9'.repeat(300)];
  t.same(readMemoryDevice(memoryDevice({ size: 1, serial: 2 }, texts)), {
    slot: '[2J|A1',
    mib: 1,
    serial: '9'.repeat(64),
  });
});

test('a structure that is cut anywhere, or lies about its length or its type, is read as far as it goes or not at all', async (t) => {
  const whole = memoryDevice({ size: 1024, serial: 2 }, ['A1', 'S1']);
  for (let length = 0; length < whole.length; length += 1) {
    const read = readMemoryDevice(whole.subarray(0, length));
    t.equal(read === undefined, length < 0x64, `${length} bytes`);
  }
  for (let length = 0; length < 256; length += 1) {
    const lying = Buffer.from(whole);
    lying.writeUInt8(length, 1);
    t.doesNotThrow(() => readMemoryDevice(lying), `length ${length}`);
  }
  const other = Buffer.from(whole);
  other.writeUInt8(16, 0);
  t.equal(readMemoryDevice(other), undefined);
});
