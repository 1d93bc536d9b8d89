import { test } from 'tap';

import { messageType, option } from '../../pxe/dhcp/options.ts';
import type { DhcpPacket } from '../../pxe/dhcp/packet.ts';
import { BOOT_REQUEST, BROADCAST_FLAG, encodePacket, NO_ADDRESS } from '../../pxe/dhcp/packet.ts';
import { delivered, relayed } from './relay.ts';

const relay = { address: '10.80.1.1', remoteId: 'relay-1' };

test('a relay says where it stands, and from which port of its switch a request came', async (t) => {
  const request = relayed(discover(), relay, 'port-7');
  t.match(request, { giaddr: '10.80.1.1', hops: 1 });
  t.strictSame([...request.options.keys()].at(-1), option.relayAgent, 'option 82 is the last one');
  // RFC 3046 §2.0, by hand: suboption, length, value.
  const written = Buffer.concat([
    Buffer.from([1, 6]),
    Buffer.from('port-7'),
    Buffer.from([2, 7]),
    Buffer.from('relay-1'),
  ]);
  t.strictSame(Buffer.from(request.options.get(option.relayAgent)!), written);
  t.ok(encodePacket(request).includes(Buffer.concat([Buffer.from([82, written.length]), written])));
});

test('a relay behind another leaves address and option 82 of the first, and counts itself', async (t) => {
  const first = relayed(discover(), relay, 'port-7');
  const second = relayed(first, { address: '10.80.9.1', remoteId: 'relay-9' }, 'uplink');
  t.match(second, { giaddr: '10.80.1.1', hops: 2 });
  t.strictSame(second.options, first.options);
});

test('the client is not shown option 82', async (t) => {
  const reply = relayed(discover(), relay, 'port-7');
  t.strictSame(delivered(reply).options, discover().options);
});

function discover(): DhcpPacket {
  return {
    ...{ op: BOOT_REQUEST, hardwareType: 1, hardwareLength: 6, hops: 0, xid: 7, secs: 0, flags: BROADCAST_FLAG },
    ...{ ciaddr: NO_ADDRESS, yiaddr: NO_ADDRESS, siaddr: NO_ADDRESS, giaddr: NO_ADDRESS },
    chaddr: Buffer.from('52540078000100000000000000000000', 'hex'),
    ...{ sname: '', file: '' },
    options: new Map([[option.messageType, messageType('discover')]]),
  };
}
