import { test } from 'tap';

import { start } from './conformance-rack.fixture.ts';

// What stands between our server and its clients, or beside it: a relay and another server that are not ours.

test('udhcpc behind the ISC relay is bound in its network, and renews by asking us itself', async (t) => {
  const rack = await start(t, ['udhcpc', 'dhcrelay']);
  if (rack === undefined) return;
  const stranger = '52:54:00:78:00:21';
  const behind = await rack.behindRelay(stranger);
  t.match(await behind.udhcpc(), { bound: { ip: '10.78.0.100', router: '10.78.0.1', serverid: '10.77.0.1' } });
  const [discover] = await rack.packets(stranger, 4);
  t.equal(discover, 'discover by 10.78.0.1 at 10.78.0.1/racks', 'option 82 names the port');
  t.match(await behind.renewal(), { renew: { ip: '10.78.0.100' } });
  // The relay hears this one on its wire too, and forwards it: who asked directly is told from that.
  t.ok((await rack.packets(stranger, 12)).includes('request 10.78.0.100'));
});

test('dnsmasq beside us is found, and named with its MAC, before any client has met it', async (t) => {
  const rack = await start(t, ['dnsmasq']);
  if (rack === undefined) return;
  const mac = '52:54:00:77:09:09';
  rack.plug(mac);
  await rack.foreign('10.77.0.9');
  t.match(await rack.alert(), {
    code: 'dhcp.foreign-server',
    message: new RegExp(`^10\\.77\\.0\\.9 offered too: .*MAC ${mac}`),
  });
});
