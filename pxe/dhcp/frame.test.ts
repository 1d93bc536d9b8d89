import { test } from 'tap';

import { parseMac } from '../boot-client.ts';
import { clientFrame, readDhcpFrame, toDhcpClients } from './frame.ts';
import { seededRandom } from '../../lab/loss/seeded-random.ts';
import { mutated } from './mutate.fixture.ts';

// Recorded from dnsmasq: Ethernet, IPv4, UDP 67 to 68, then four bytes in place of the message.
const RECORDED = Buffer.from(
  'ffffffffffff525400770909080045c00020c2fc00004011b2590a4d0009ffffffff00430044000cf0cbdeadbeef',
  'hex',
);

test('a frame is read with the MAC that sent it', async (t) => {
  t.match(readDhcpFrame(RECORDED), {
    sourceMac: '52:54:00:77:09:09',
    source: '10.77.0.9',
    destination: '255.255.255.255',
    bytes: Buffer.from('deadbeef', 'hex'),
  });
});

test('padding behind the datagram is not read', async (t) => {
  const padded = Buffer.concat([RECORDED, Buffer.alloc(14, 0xee)]);
  t.equal(readDhcpFrame(padded)?.bytes.length, 4);
});

test("a client's frame is read back, and its IP header adds up", async (t) => {
  const frame = clientFrame(parseMac('52:54:00:77:00:01')!, Buffer.from('message'));
  t.match(readDhcpFrame(frame), {
    sourceMac: '52:54:00:77:00:01',
    source: '0.0.0.0',
    destination: '255.255.255.255',
    bytes: Buffer.from('message'),
  });
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += frame.readUInt16BE(at);
  t.equal((sum & 0xffff) + (sum >>> 16), 0xffff, 'RFC 1071: a header with its checksum sums up to ones');
});

test('lengths that do not add up make it no frame, and nothing throws', async (t) => {
  for (let length = 0; length < RECORDED.length; length++) {
    t.equal(readDhcpFrame(RECORDED.subarray(0, length)), undefined, `cut to ${length}`);
  }
  const random = seededRandom(68);
  for (let round = 0; round < 5_000; round++) readDhcpFrame(mutated(RECORDED, random));
});

test('the filter lets through untagged whole datagrams to port 68, and nothing else', async (t) => {
  t.ok(passes(RECORDED));
  const changed = (at: number, ...bytes: number[]) => {
    const frame = Buffer.from(RECORDED);
    frame.set(bytes, at);
    return frame;
  };
  t.notOk(passes(RECORDED, 1), 'of another VLAN');
  t.notOk(passes(changed(12, 0x86, 0xdd)), 'IPv6');
  t.notOk(passes(changed(23, 6)), 'TCP');
  t.notOk(passes(changed(20, 0x20, 0)), 'a first fragment');
  t.notOk(passes(changed(20, 0, 1)), 'another fragment');
  t.ok(passes(changed(20, 0x40, 0)), '"do not fragment" is none');
  t.notOk(passes(changed(36, 0, 67)), 'to a server');
  const withOptions = Buffer.concat([RECORDED.subarray(0, 34), Buffer.alloc(4), RECORDED.subarray(34)]);
  withOptions[14] = 0x46;
  t.ok(passes(withOptions), 'behind IP options');
});

// A machine of RFC-less BPF, as far as the filter needs one; the kernel's own is met in conformance.test.ts.
function passes(frame: Buffer, vlanTagged = 0): boolean {
  const program = toDhcpClients();
  let [a, x] = [0, 0];
  for (let at = 0; ; at++) {
    const { code, jt, jf, k } = program[at]!;
    if (code === 0x20) a = vlanTagged;
    else if (code === 0x28) a = frame.readUInt16BE(k);
    else if (code === 0x30) a = frame.readUInt8(k);
    else if (code === 0x48) a = frame.readUInt16BE(x + k);
    else if (code === 0xb1) x = (frame.readUInt8(k) & 15) * 4;
    else if (code === 0x15) at += a === k ? jt : jf;
    else if (code === 0x45) at += (a & k) !== 0 ? jt : jf;
    else return k > 0;
  }
}
