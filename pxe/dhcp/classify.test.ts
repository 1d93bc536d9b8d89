import { test } from 'tap';

import { classify } from './classify.ts';
import type { Firmware } from './golden.fixture.ts';
import { requestPacket } from './golden.fixture.ts';
import { parsePacket } from './packet.ts';
import { encodePacket } from './packet.ts';

const mac = '52:54:00:77:00:01';
const uuid = '12345678-9abc-def0-1122-334455667788';

const clients: Record<Firmware, object> = {
  ipxeBios: { mac, kind: 'ipxe', architecture: 0, uuid },
  ipxeEfi: { mac, kind: 'ipxe', architecture: 7, uuid },
  edk2Pxe: { mac, kind: 'pxe-rom', architecture: 7, uuid },
  edk2Http: { mac, kind: 'http-boot', architecture: 16, uuid },
  udhcpc: { mac, kind: 'os' },
  dhclient: { mac, kind: 'os' },
  networkd: { mac, kind: 'os' },
};

for (const [from, client] of Object.entries(clients)) {
  test(`${from} is told from the others by its DISCOVER`, async (t) => {
    const packet = parsePacket(encodePacket(requestPacket('discover', from as Firmware)));
    if (typeof packet === 'string') throw new Error(packet);
    t.strictSame(classify(packet), client);
  });
}

test('iPXE is known by a user class in the form of RFC 3004 too', async (t) => {
  const packet = requestPacket('discover', 'ipxeBios', { options: { 77: '0469505845' } });
  t.equal(classify(packet)?.kind, 'ipxe');
});

test('a client without one Ethernet address is nobody', async (t) => {
  const packet = requestPacket('discover', 'udhcpc');
  t.equal(classify({ ...packet, hardwareType: 32 }), undefined);
  t.equal(classify({ ...packet, hardwareLength: 8 }), undefined);
  t.equal(classify({ ...packet, chaddr: Buffer.alloc(16) }), undefined);
  t.equal(classify({ ...packet, chaddr: Buffer.alloc(16, 0xff) }), undefined);
});
