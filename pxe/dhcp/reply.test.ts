import { test } from 'tap';

import { Secret } from '../../appliance/kernel/secret.ts';
import type { BootAnswer } from './boot-answer.ts';
import { classify } from './classify.ts';
import type { Firmware, RequestFields } from './golden.fixture.ts';
import { requestPacket } from './golden.fixture.ts';
import type { Binding } from './lease-book.ts';
import type { DhcpPacket } from './packet.ts';
import { encodePacket, parsePacket } from './packet.ts';
import type { Reply } from './reply.ts';
import { informReply, leaseReply, nakReply, proxyReply } from './reply.ts';

const SERVER = '10.77.0.1';
const binding: Binding = {
  address: '10.77.0.11',
  prefixLength: 24,
  gateway: '10.77.0.254',
  dns: ['10.77.0.2', '10.77.0.3'],
  leaseTime: 3600,
  permanent: true,
};
const loader: BootAnswer = { kind: 'loader', file: 'snponly.efi' };
const LOADER_URL = 'http://10.77.0.1:8080/loader/snponly.efi';
const SCRIPT = 'http://10.77.0.1:8080/boot/52-54-00-77-00-01?token=t';
const script: BootAnswer = { kind: 'script', url: new Secret(SCRIPT) };
const none: BootAnswer = { kind: 'none' };

test("EDK2's PXE client is offered the loader, and told to look for no boot server", async (t) => {
  t.same(shown(offer('edk2Pxe', loader)), {
    to: '255.255.255.255:68',
    yiaddr: '10.77.0.11',
    siaddr: SERVER,
    file: 'snponly.efi',
    options: [
      [53, '02'],
      [54, '0a4d0001'],
      [51, '00000e10'],
      [1, 'ffffff00'],
      [60, hex('PXEClient')],
      [43, '060108ff'],
      [97, '0078563412bc9af0de1122334455667788'],
      [3, '0a4d00fe'],
      [6, '0a4d00020a4d0003'],
      [28, '0a4d00ff'],
      [58, '00000708'],
      [59, '00000c4e'],
      [66, hex(SERVER)],
      [67, hex('snponly.efi')],
    ],
  });
});

for (const from of ['ipxeBios', 'ipxeEfi'] as const) {
  test(`${from} is offered the script, and told to wait for no proxy DHCP server`, async (t) => {
    t.same(shown(offer(from, script)), {
      to: '255.255.255.255:68',
      yiaddr: '10.77.0.11',
      siaddr: SERVER,
      file: '',
      options: [
        [53, '02'],
        [54, '0a4d0001'],
        [51, '00000e10'],
        [1, 'ffffff00'],
        [3, '0a4d00fe'],
        [6, '0a4d00020a4d0003'],
        [61, from === 'ipxeBios' ? '01525400770001' : '01525400770002'],
        [175, 'b00101'],
        [67, hex(SCRIPT)],
      ],
    });
  });
}

test("EDK2's HTTP boot is offered a URL by the class that it looks for, and nothing of PXE", async (t) => {
  t.same(shown(offer('edk2Http', { kind: 'loader-url', url: LOADER_URL })), {
    to: '255.255.255.255:68',
    yiaddr: '10.77.0.11',
    siaddr: '0.0.0.0',
    file: '',
    options: [
      [53, '02'],
      [54, '0a4d0001'],
      [51, '00000e10'],
      [1, 'ffffff00'],
      [60, hex('HTTPClient')],
      [3, '0a4d00fe'],
      [6, '0a4d00020a4d0003'],
      [28, '0a4d00ff'],
      [58, '00000708'],
      [59, '00000c4e'],
      [67, hex(LOADER_URL)],
    ],
  });
});

test("a proxy's offer: class, machine id and boot file, and no address", async (t) => {
  t.same(shown(proxyReply('offer', requestPacket('discover', 'edk2Pxe'), loader, SERVER)), {
    to: '255.255.255.255:68',
    yiaddr: '0.0.0.0',
    siaddr: SERVER,
    file: 'snponly.efi',
    options: [
      [53, '02'],
      [54, '0a4d0001'],
      [60, hex('PXEClient')],
      [43, '060108ff'],
      [97, '0078563412bc9af0de1122334455667788'],
      [67, hex('snponly.efi')],
    ],
  });
});

test('a ROM that is not to boot gets a plain lease', async (t) => {
  const { siaddr, file, options } = shown(offer('edk2Pxe', none));
  t.equal(siaddr, '0.0.0.0');
  t.equal(file, '');
  t.same(
    options.map(([code]) => code),
    [53, 54, 51, 1, 3, 6, 28, 58, 59],
  );
});

for (const [from, codes] of [
  ['udhcpc', [53, 54, 51, 1, 3, 6, 28, 61]],
  ['dhclient', [53, 54, 51, 1, 28, 3, 6]],
  ['networkd', [53, 54, 51, 1, 3, 6, 61]],
] as const) {
  test(`${from} gets what it asks for, in its order`, async (t) => {
    const { options } = shown(lease('ack', requestPacket('request', from), none));
    t.same(
      options.map(([code]) => code),
      codes,
    );
    t.same(options[0], [53, '05']);
  });
}

test('a client that asks for nothing by name gets all there is', async (t) => {
  const request = requestPacket('discover', 'dhclient');
  const silent = { ...request, options: new Map([...request.options].filter(([code]) => code !== 55)) };
  t.same(
    shown(lease('offer', silent, none)).options.map(([code]) => code),
    [53, 54, 51, 1, 3, 6, 28, 58, 59],
  );
});

test('the client identifier and the relay agent information go back as they came, the relay last', async (t) => {
  const duid = 'ffb5ef3a3c00020000ab11d1c9b0ecf8c2a4a1';
  const reply = shown(offer('networkd', none, { giaddr: '10.77.0.250', options: { 82: '010474657374' } }));
  t.same(reply.options.slice(-2), [
    [61, duid],
    [82, '010474657374'],
  ]);
});

const many = { ...binding, dns: Array.from({ length: 24 }, (_, index) => `10.77.1.${index}`) };
const LONG_ID = 'ab'.repeat(200);
const SMALL = '0240';

test('what does not fit the options goes into file and sname, and is read back whole', async (t) => {
  const request = requestPacket('discover', 'ipxeBios', { options: { 57: SMALL, 61: LONG_ID } });
  const { packet } = leaseReply('offer', request, { ...leaseOf(request, script), binding: many });
  const bytes = encodePacket(packet);
  t.ok(bytes.length <= 548, `${bytes.length}`);
  const read = received(bytes);
  t.equal(hexOf(read.options.get(52)), '01');
  t.equal(read.options.get(6)?.length, 24 * 4);
  t.equal(bytes.readUInt8(108), 6, 'the name servers begin the field');
  t.same([read.file, read.sname], ['', ''], 'a field of options is no name');
  t.same([hexOf(read.options.get(61)), hexOf(read.options.get(67))], [LONG_ID, hex(SCRIPT)]);
});

test('beside a loader the field of the boot file stays its own', async (t) => {
  const eight = { ...binding, dns: many.dns.slice(0, 8) };
  const request = requestPacket('discover', 'edk2Pxe', { options: { 57: SMALL, 61: 'ab'.repeat(190) } });
  const { packet } = leaseReply('offer', request, { ...leaseOf(request, loader), binding: eight });
  const bytes = encodePacket(packet);
  t.ok(bytes.length <= 548, `${bytes.length}`);
  const read = received(bytes);
  t.equal(read.file, 'snponly.efi');
  t.equal(hexOf(read.options.get(52)), '02');
  t.equal(read.options.get(6)?.length, 8 * 4);
});

test('what then does not fit is left out where it was only asked for, and nothing is cut short', async (t) => {
  const flood = { ...binding, dns: Array.from({ length: 60 }, (_, index) => `10.77.1.${index}`) };
  const request = requestPacket('discover', 'ipxeBios', { options: { 57: SMALL, 61: LONG_ID } });
  const { packet } = leaseReply('offer', request, { ...leaseOf(request, script), binding: flood });
  t.ok(encodePacket(packet).length <= 548);
  const read = received(encodePacket(packet));
  t.notOk(read.options.has(6));
  t.equal(hexOf(read.options.get(3)), '0a4d00fe');
  t.equal(hexOf(read.options.get(67)), hex(SCRIPT));
  t.equal(hexOf(read.options.get(61)), LONG_ID);
});

test("the relay's option and the boot file are never moved: both stand last among the options", async (t) => {
  const option82 = `01c8${'cd'.repeat(200)}`;
  const request = requestPacket('discover', 'ipxeBios', {
    giaddr: '10.77.0.250',
    options: { 57: SMALL, 61: 'ab'.repeat(100), 82: option82 },
  });
  const { packet } = leaseReply('offer', request, { ...leaseOf(request, script), binding: many });
  t.ok(encodePacket(packet).length <= 548);
  t.same([...packet.options.keys()].slice(-2), [67, 82]);
  t.notOk(packet.options.has(61), 'the client identifier made room');
  const read = received(encodePacket(packet));
  t.equal(hexOf(read.options.get(61)), 'ab'.repeat(100));
  t.equal(hexOf(read.options.get(82)), option82);
});

test('an identifier of more than 255 bytes goes back as it came, in two parts', async (t) => {
  const request = requestPacket('discover', 'udhcpc', { options: { 57: '05c0', 61: 'ab'.repeat(300) } });
  const bytes = encodePacket(lease('offer', request, none).packet);
  t.match(bytes.toString('hex'), `3dff${'ab'.repeat(255)}3d2d${'ab'.repeat(45)}`);
  t.equal(hexOf(received(bytes).options.get(61)), 'ab'.repeat(300));
});

test('parameters for an INFORM stay within what the client takes', async (t) => {
  const request = requestPacket('inform', 'udhcpc', { ciaddr: '10.77.0.40', options: { 61: LONG_ID } });
  const flood = { ...binding, dns: Array.from({ length: 60 }, (_, index) => `10.77.1.${index}`) };
  const bytes = encodePacket(informReply(request, flood, SERVER).packet);
  t.ok(bytes.length <= 548);
  t.equal(hexOf(received(bytes).options.get(3)), '0a4d00fe');
});

test('a reply goes to the relay, else to the address the client has, else to everybody', async (t) => {
  const ack = (fields: RequestFields) => shown(lease('ack', requestPacket('request', 'udhcpc', fields), none)).to;
  t.equal(ack({}), '255.255.255.255:68');
  t.equal(ack({ flags: 0x8000 }), '255.255.255.255:68');
  t.equal(ack({ ciaddr: '10.77.0.11' }), '10.77.0.11:68');
  t.equal(ack({ ciaddr: '10.77.0.11', giaddr: '10.77.0.250' }), '10.77.0.250:67');
  t.equal(ack({ ciaddr: '192.0.2.1' }), '255.255.255.255:68', 'an address that is not its own is sent nothing');
});

test('an ACK repeats the address the client has, an OFFER does not', async (t) => {
  const request = requestPacket('request', 'udhcpc', { ciaddr: '10.77.0.11' });
  t.equal(lease('ack', request, none).packet.ciaddr, '10.77.0.11');
  t.equal(lease('offer', request, none).packet.ciaddr, '0.0.0.0');
});

test('a reply belongs to its request: transaction, hardware address, flags, relay', async (t) => {
  const request = requestPacket('discover', 'edk2Pxe', { flags: 0x8000, giaddr: '10.77.0.250' });
  const { packet } = lease('offer', request, loader);
  t.equal(packet.op, 2);
  t.equal(packet.xid, request.xid);
  t.equal(packet.flags, 0x8000);
  t.equal(packet.giaddr, '10.77.0.250');
  t.same(packet.chaddr, request.chaddr);
});

test('a NAK holds a reason and no lease, and is broadcast', async (t) => {
  const request = requestPacket('request', 'udhcpc', { ciaddr: '10.77.0.99' });
  t.same(shown(nakReply(request, 'not yours', SERVER)), {
    to: '255.255.255.255:68',
    yiaddr: '0.0.0.0',
    siaddr: '0.0.0.0',
    file: '',
    options: [
      [53, '06'],
      [54, '0a4d0001'],
      [56, hex('not yours')],
      [61, '01525400770003'],
    ],
  });
});

test('a NAK through a relay is to be broadcast by the relay', async (t) => {
  const reply = nakReply(requestPacket('request', 'udhcpc', { giaddr: '10.77.0.250' }), 'not yours', SERVER);
  t.equal(shown(reply).to, '10.77.0.250:67');
  t.equal(reply.packet.flags, 0x8000);
});

test('an INFORM is answered with parameters alone', async (t) => {
  const reply = informReply(requestPacket('inform', 'networkd', { ciaddr: '10.77.0.40' }), binding, SERVER);
  t.same(shown(reply), {
    to: '10.77.0.40:68',
    yiaddr: '0.0.0.0',
    siaddr: '0.0.0.0',
    file: '',
    options: [
      [53, '05'],
      [54, '0a4d0001'],
      [1, 'ffffff00'],
      [3, '0a4d00fe'],
      [6, '0a4d00020a4d0003'],
      [61, 'ffb5ef3a3c00020000ab11d1c9b0ecf8c2a4a1'],
    ],
  });
});

function offer(from: Firmware, boot: BootAnswer, fields: RequestFields = {}): Reply {
  return lease('offer', requestPacket('discover', from, fields), boot);
}

function lease(type: 'offer' | 'ack', request: DhcpPacket, boot: BootAnswer): Reply {
  return leaseReply(type, request, leaseOf(request, boot));
}

function leaseOf(request: DhcpPacket, boot: BootAnswer) {
  return { client: classify(request)!, binding, boot, serverAddress: SERVER };
}

function received(bytes: Buffer): DhcpPacket {
  const packet = parsePacket(bytes);
  if (typeof packet === 'string') throw new Error(packet);
  return packet;
}

function hexOf(value: Uint8Array | undefined): string | undefined {
  return value && Buffer.from(value).toString('hex');
}

// What the client reads off the wire, options in the order they stand there.
function shown({ packet: sent, address, port }: Reply) {
  const packet = received(encodePacket(sent));
  const { yiaddr, siaddr, file } = packet;
  const options = [...packet.options].map(([code, value]) => [code, Buffer.from(value).toString('hex')] as const);
  return { to: `${address}:${port}`, yiaddr, siaddr, file, options };
}

function hex(text: string): string {
  return Buffer.from(text).toString('hex');
}
