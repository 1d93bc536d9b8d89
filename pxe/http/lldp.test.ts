import { test } from 'tap';

import { chassis, lifetime, lldpField, lldpFrame, port, systemName } from './lldp.fixture.ts';
import { readLldpFrame } from './lldp.ts';

const mac = chassis(4, Buffer.from('525400770001', 'hex'));
const eth3 = port(5, 'eth3');

test('a neighbour is the switch by its name and its port, and by its chassis where it has no name', async (t) => {
  for (const [frame, neighbour] of [
    [lldpFrame(mac, eth3, lifetime(120), systemName('sw-7')), 'sw-7/eth3'],
    [lldpFrame(mac, eth3, lifetime(120)), '52:54:00:77:00:01/eth3'],
    [lldpFrame(chassis(7, 'leaf 7'), port(7, '503'), lifetime(1), systemName('')), 'leaf 7/503'],
    [
      lldpFrame(chassis(5, Buffer.of(1, 10, 0, 0, 1)), port(3, Buffer.of(2, 0, 0, 0, 0, 9)), lifetime(9)),
      '01:0a:00:00:01/02:00:00:00:00:09',
    ],
    [lldpFrame(mac, port(1, 'Gi1/0/3'), lifetime(120), [127, Buffer.alloc(511)], systemName('sw-7')), 'sw-7/Gi1/0/3'],
  ] as const) {
    t.equal(readLldpFrame(frame), neighbour);
  }
});

test('a frame that names nobody, one of another protocol and a good-bye are no neighbours', async (t) => {
  const other = lldpFrame(mac, eth3, lifetime(120));
  other.writeUInt16BE(0x88cd, 12);
  for (const frame of [
    other,
    lldpFrame(),
    lldpFrame(mac, eth3),
    lldpFrame(mac, eth3, [3, Buffer.of(120)]),
    lldpFrame(mac, eth3, lifetime(0), systemName('sw-7')),
    lldpFrame(eth3, lifetime(120)),
    lldpFrame(mac, lifetime(120), systemName('sw-7')),
    lldpFrame([1, Buffer.of()], [2, Buffer.of()], lifetime(120)),
    lldpFrame(mac, port(5, '\u0001\u0002'), lifetime(120)),
  ]) {
    t.equal(readLldpFrame(frame), undefined, frame.toString('hex'));
  }
});

test('the first field of a type counts, and none behind the end', async (t) => {
  t.equal(readLldpFrame(lldpFrame(mac, eth3, lifetime(120), systemName('one'), systemName('two'))), 'one/eth3');
  const behind = Buffer.concat([lldpFrame(mac, eth3, lifetime(120)), lldpField(...systemName('sw-7'))]);
  t.equal(readLldpFrame(behind), '52:54:00:77:00:01/eth3');
});

test('names hold what people can read, and are no longer than the manifest has them', async (t) => {
  const loud = lldpFrame(mac, port(5, ` eth\n3${'x'.repeat(250)}`), lifetime(120), systemName('\u001b[2Jsw\u00e9-7 '));
  t.equal(readLldpFrame(loud), `[2Jsw-7/eth3${'x'.repeat(95)}`);
  const long = lldpFrame(chassis(4, Buffer.alloc(255, 1)), port(7, 'p'.repeat(254)), lifetime(120));
  t.ok((readLldpFrame(long)?.length ?? 0) <= 200);
});

test('a frame that is cut anywhere is read as far as it goes, or not at all', async (t) => {
  const whole = lldpFrame(mac, eth3, lifetime(120), systemName('sw-7'));
  const read = Array.from(whole, (_, length) => readLldpFrame(whole.subarray(0, length)));
  t.same(new Set(read), new Set([undefined, '52:54:00:77:00:01/eth3', 'sw-7/eth3']));
  for (let at = 0; at < whole.length; at += 1) {
    for (const value of [0, 1, 0x7f, 0xff]) {
      const hostile = Buffer.from(whole);
      hostile.writeUInt8(value, at);
      t.match(readLldpFrame(hostile) ?? 'a/b', /^[ -~]+\/[ -~]+$/, `${value} at ${at}`);
    }
  }
});
