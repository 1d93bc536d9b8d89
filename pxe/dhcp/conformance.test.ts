import { test } from 'tap';

import { FIXTURE, KNOWN, start } from './conformance-rack.fixture.ts';

// Independent clients against the real server, over a veth pair between two network namespaces.

test('udhcpc is bound: a known machine to its reservation, a stranger to the range', async (t) => {
  const rack = await start(t, ['udhcpc']);
  if (rack === undefined) return;
  for (const [mac, address] of [
    [KNOWN, '10.77.0.11'],
    ['52:54:00:77:00:21', '10.77.0.100'],
  ] as const) {
    rack.plug(mac);
    t.match(await rack.udhcpc('near'), {
      bound: { ip: address, mask: '24', router: '10.77.0.254', dns: '10.77.0.2', serverid: '10.77.0.1' },
    });
  }
  t.same(await rack.packets(KNOWN, 4), ['discover', 'offer 10.77.0.11', 'request 10.77.0.11', 'ack 10.77.0.11']);
});

test('udhcpc says that it is a PXE ROM, and is told the loader', async (t) => {
  const rack = await start(t, ['udhcpc']);
  if (rack === undefined) return;
  rack.plug(KNOWN);
  const rom = ['-V', 'PXEClient:Arch:00000:UNDI:002001', '-x', '0x5d:0000', '-O', 'tftp', '-O', 'bootfile'];
  t.match(await rack.udhcpc('near', rom), {
    bound: { ip: '10.77.0.11', siaddr: '10.77.0.1', boot_file: 'undionly.kpxe', bootfile: 'undionly.kpxe' },
  });
});

test('udhcpc finds its address in use, declines it and is given another', async (t) => {
  const rack = await start(t, ['udhcpc']);
  if (rack === undefined) return;
  const stranger = '52:54:00:77:00:22';
  rack.squat('10.77.0.100');
  rack.plug(stranger);
  t.match(await rack.udhcpc('near', ['-a', '-A', '1']), { bound: { ip: '10.77.0.101' } });
  const packets = await rack.packets(stranger, 9);

  t.equal(packets[4], 'decline 10.77.0.100');
  t.equal(packets[8], 'ack 10.77.0.101');
});

test('dhclient comes back with an address of before, is refused, bound anew, and releases it', async (t) => {
  const rack = await start(t, ['dhclient']);
  if (rack === undefined) return;
  rack.plug(KNOWN);
  await rack.dhclient(['-1', '-d'], /bound to 10\.77\.0\.11 /, '10.77.0.150');
  await rack.dhclient(['-r', '-d'], /DHCPRELEASE of 10\.77\.0\.11 /);
  const packets = await rack.packets(KNOWN, 7);
  t.same(packets, [
    'request 10.77.0.150',
    'nak 10.77.0.150',
    'discover',
    'offer 10.77.0.11',
    'request 10.77.0.11',
    'ack 10.77.0.11',
    'release 10.77.0.11',
  ]);
});

test("the npm package dhcp's client is bound", async (t) => {
  const rack = await start(t, []);
  if (rack === undefined) return;
  const mac = '52:54:00:77:00:23';
  rack.plug(mac);
  const [line = ''] = await rack.client([process.execPath, FIXTURE, 'ask', mac]).lines;
  t.match(JSON.parse(line), { address: '10.77.0.100', netmask: '255.255.255.0', server: '10.77.0.1' });
});

test('only the interface named is served, whatever else the host has', async (t) => {
  const rack = await start(t, ['udhcpc']);
  if (rack === undefined) return;
  const elsewhere = '52:54:00:77:00:24';
  rack.plug(elsewhere, 'far');
  t.same(Object.keys(await rack.udhcpc('far', ['-t', '1', '-T', '1'])), ['leasefail']);
  rack.plug(KNOWN);
  t.match(await rack.udhcpc('near'), { bound: { ip: '10.77.0.11' } });
  t.same(await rack.packets(elsewhere, 0), []);
});

test('udhcpc has one address as firmware, as iPXE and as an operating system, known or not', async (t) => {
  const rack = await start(t, ['udhcpc']);
  if (rack === undefined) return;
  const duid = '0x3d:ff12345600020000ab11d1c9b0ecf8c2a4a1';
  for (const [mac, ip] of [
    [KNOWN, '10.77.0.11'],
    ['52:54:00:77:00:25', '10.77.0.100'],
  ] as const) {
    rack.plug(mac);
    for (const as of [['-C'], [], ['-C', '-x', duid]]) {
      t.match(await rack.udhcpc('near', as), { bound: { ip } }, `${mac} as ${as.join(' ')}`);
    }
  }
});
