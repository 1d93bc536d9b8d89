import { test } from 'tap';

import { requestBytes, requestPacket } from './golden.fixture.ts';
import { seededRandom } from '../../lab/loss/seeded-random.ts';
import { mutated } from './mutate.fixture.ts';
import type { DhcpPacket } from './packet.ts';
import { encodePacket, parsePacket } from './packet.ts';

// Recorded byte by byte: a DISCOVER with every field set, so that a field read from the wrong place shows.
const RECORDED = Buffer.from(
  [
    '01010603deadbeef00048000',
    '0a4d00650a4d00660a4d00670a4d0068',
    '52540077000100000000000000000000',
    Buffer.from('name').toString('hex').padEnd(128, '0'),
    Buffer.from('file').toString('hex').padEnd(256, '0'),
    '63825363',
    '350101',
    '0000',
    '3d0701525400770001',
    'ff',
  ].join(''),
  'hex',
);

test('every field is read from its place', async (t) => {
  const { chaddr, options, ...fields } = read(RECORDED);
  t.same(fields, {
    op: 1,
    hardwareType: 1,
    hardwareLength: 6,
    hops: 3,
    xid: 0xdeadbeef,
    secs: 4,
    flags: 0x8000,
    ciaddr: '10.77.0.101',
    yiaddr: '10.77.0.102',
    siaddr: '10.77.0.103',
    giaddr: '10.77.0.104',
    sname: 'name',
    file: 'file',
  });
  t.equal(Buffer.from(chaddr).toString('hex'), '525400770001'.padEnd(32, '0'));
  t.same(hex(options), { 53: '01', 61: '01525400770001' });
});

test('what is written is read back the same, and is no shorter than BOOTP', async (t) => {
  const packet = read(RECORDED);
  const written = encodePacket(packet);
  t.equal(written.length, 300);
  t.same(comparable(read(written)), comparable(packet));
  const discover = requestPacket('discover', 'ipxeBios');
  t.same(comparable(read(encodePacket(discover))), comparable(discover));
});

test('a datagram without the magic cookie, too short or too long is none', async (t) => {
  t.equal(parsePacket(Buffer.alloc(0)), 'truncated');
  t.equal(parsePacket(RECORDED.subarray(0, 239)), 'truncated');
  t.equal(parsePacket(Buffer.concat([RECORDED, Buffer.alloc(1500)])), 'oversized');
  const bootp = Buffer.from(RECORDED);
  bootp.writeUInt32BE(0, 236);
  t.equal(parsePacket(bootp), 'no magic cookie');
  const longAddress = Buffer.from(RECORDED);
  longAddress.writeUInt8(17, 2);
  t.equal(parsePacket(longAddress), 'hardware address too long');
});

test('an option that passes the end makes the whole message none', async (t) => {
  for (const cut of ['35', '3501', '3502ff', '0c0a616263']) {
    t.equal(parsePacket(withOptions(cut)), 'an option passes the end', cut);
  }
});

test('a missing end is forgiven, and nothing after the end is read', async (t) => {
  t.same(hex(read(withOptions('350101')).options), { 53: '01' });
  t.same(hex(read(withOptions('350101ff0c0161')).options), { 53: '01' });
});

test('an option that comes twice is joined', async (t) => {
  t.same(hex(read(withOptions('3501010c0261620c026364ff')).options), { 53: '01', 12: '61626364' });
});

test('a value longer than one option can hold is split and joined again', async (t) => {
  const long = Buffer.alloc(600, 'x');
  const packet = {
    ...read(RECORDED),
    options: new Map<number, Uint8Array>([
      [43, long],
      [80, Buffer.alloc(0)],
    ]),
  };
  const again = read(encodePacket(packet));
  t.ok(long.equals(again.options.get(43)!));
  t.equal(again.options.get(80)?.length, 0);
});

test('options go on in file and sname where option 52 says so, file first', async (t) => {
  const bytes = withOptions('350101340103ff');
  bytes.fill(0, 44, 236);
  Buffer.from('0c026364ff', 'hex').copy(bytes, 44);
  Buffer.from('0c026162ff', 'hex').copy(bytes, 108);
  const packet = read(bytes);
  t.same(hex(packet.options), { 53: '01', 52: '03', 12: '61626364' });
  t.equal(packet.file, '');
  t.equal(packet.sname, '');
});

test('an overload inside an overloaded field opens nothing', async (t) => {
  const bytes = withOptions('350101340101ff');
  bytes.fill(0, 44, 236);
  Buffer.from('340102ff', 'hex').copy(bytes, 108);
  Buffer.from('0c026364ff', 'hex').copy(bytes, 44);
  t.same(hex(read(bytes).options), { 53: '01', 52: '0102' });
  t.equal(read(bytes).sname.slice(0, 1), '\x0c', 'sname is a name');
});

test('an option in an overloaded field stays within the field', async (t) => {
  const bytes = withOptions('350101340101ff');
  bytes.fill(0, 108, 236);
  Buffer.from('0cff', 'hex').copy(bytes, 234);
  t.equal(parsePacket(bytes), 'an option passes the end of file');
});

test('a text that does not fit its field is a defect, never a cut name', async (t) => {
  const packet = read(RECORDED);
  t.throws(() => encodePacket({ ...packet, file: 'x'.repeat(128) }), { code: 'internal' });
  t.equal(read(encodePacket({ ...packet, file: 'x'.repeat(127) })).file.length, 127);
});

test('mutated packets never throw out of the reader', async (t) => {
  const random = seededRandom(20_261_121);
  const seeds = [RECORDED, requestBytes('discover', 'ipxeBios'), requestBytes('request', 'networkd')];
  let read = 0;
  for (let round = 0; round < 20_000; round++) {
    const bytes = mutated(seeds[round % seeds.length]!, random);
    const packet = parsePacket(bytes);
    if (typeof packet === 'string') continue;
    read++;
    const total = [...packet.options.values()].reduce((sum, value) => sum + value.length, 0);
    if (total > bytes.length) t.fail('more option bytes than were sent');
  }
  t.ok(read > 1_000 && read < 19_000, `both ways were taken: ${read} of 20,000 were read`);
});

function read(bytes: Buffer): DhcpPacket {
  const packet = parsePacket(bytes);
  if (typeof packet === 'string') throw new Error(packet);
  return packet;
}
function withOptions(options: string): Buffer {
  return Buffer.concat([RECORDED.subarray(0, 240), Buffer.from(options, 'hex')]);
}
function hex(options: DhcpPacket['options']): Record<number, string> {
  return Object.fromEntries([...options].map(([code, value]) => [code, Buffer.from(value).toString('hex')]));
}
function comparable(packet: DhcpPacket) {
  return { ...packet, chaddr: Buffer.from(packet.chaddr).toString('hex'), options: hex(packet.options) };
}
