import { join } from 'node:path';

import type { Test } from 'tap';

import { run } from '../process/run.ts';
import { until } from '../process/until.ts';
import type { Server, Timeline } from '../site/server.ts';
import type { Site } from '../site/site.ts';
import { deployed, machineFlow } from './flow.ts';

machineFlow(
  'a machine that nobody enrolled is taken in by the manifest, waits in the ramdisk, and is installed where it waits',
  [{ name: 'http-1', firmware: 'uefi-http' }],
  async (t, site) => {
    await site.orderInVain();
    await site.rack.speakLldp('sw-7');
    const id = await site.discover('http-1');
    await wasBootedByHttp(t, site, id);
    t.match(await site.operator.get(`/machines/${id}`), {
      ...{ firmwareVendor: String, firmwareDate: /^\d{4}-\d\d-\d\d$/, dimms: [{ slot: 'DIMM 0', mib: Number }] },
      nics: [{ link: 'up', neighbour: 'sw-7/tap1' }],
    });

    await site.warm(id);
    const waited = await parkedOf(site, id);
    t.equal(waited.image, 'debian:12', 'what was ordered before is likely');
    await site.daemon.kill();
    const restarted = Date.now();
    await site.daemon.start();
    const asked = await until('the machine to ask again', 60_000, async () => {
      const parked = await parkedOf(site, id);
      return Date.parse(parked.seenAt) > restarted && parked;
    });
    t.same({ ...asked, seenAt: '' }, { ...waited, seenAt: '' }, 'it outlives a kill of the daemon in the same boot');

    await site.wroteAhead('http-1');
    const server = await deployed(site, 'web-1');
    t.equal((await site.ssh(server, 'hostname')).trim(), 'web-1');
    await isWarm(t, site, server);
    const { entries } = await site.operator.get<Timeline>(`/servers/${server.id}/timeline`);
    const imaged = entries.find(({ name }) => name === 'image done');
    t.ok(Number(imaged?.detail['ahead']) > 0.9 * Number(imaged?.detail['bytes']), 'nearly all of the image was there');
    const injected = entries.find(({ name }) => name === 'inject done');
    t.match(injected, { detail: { boot_order: /^[0-9A-F]{4}/ } }, 'its firmware has the network first');
    const boots = await bootsOf(site, id);
    t.match(boots, [{ verb: 'install' }, { verb: 'wait' }, { verb: 'inspect' }]);
    // Its question is held open for 25 s: one that was begun anew would be seen.
    t.equal(boots[1]?.seenAt, asked.seenAt, 'the order answers the question that was open when it came');
    const claimed = Date.parse(boots[1]?.claimedAt ?? '');
    const asking = await packets(site, `ether src ${site.rack.machine('http-1').mac} and udp dst port 67`);
    t.ok(asking.length > 0 && asking.every((at) => at < claimed), 'once in the ramdisk it asked nobody for an address');
    t.same(await packets(site, 'udp port 69'), [], 'there was no TFTP');
  },
  { settings: ['discovery: { inspect: true }'] },
);

/** By UEFI's own HTTP client, from the loader on. */
async function wasBootedByHttp(t: Test, site: Site, id: string): Promise<void> {
  const boots = await bootsOf(site, id);
  t.match(boots, [{ verb: 'inspect' }]);
  t.equal(boots.length, 1, 'one boot as a machine that is known, at the first try');
  const { entries, stages } = await site.operator.get<Timeline>(`/boots/${boots[0]?.session ?? ''}`);
  const hops = entries.filter(({ source }) => source === 'http').map(({ name }) => name);
  t.same(
    hops.slice(0, 5),
    ['loader', 'loader', 'script', 'kernel', 'initrd'],
    'the loader is asked for its length, then fetched',
  );
  t.ok(stages.some(({ name }) => name === 'loader'));
}

async function isWarm(t: Test, { operator, tenant }: Site, { id, attempts }: Server): Promise<void> {
  t.match(attempts, [{ path: 'warm' }]);
  const { stages, entries } = await tenant.get<Timeline>(`/servers/${id}/timeline`);
  const names = stages.map(({ name }) => name);
  t.same(names.slice(0, 3), ['admit', 'order', 'image'], 'no POST, no DHCP, no PXE');
  t.notOk(
    entries.some(({ source }) => ['bmc', 'dhcp', 'tftp'].includes(source)),
    'its BMC was told nothing',
  );

  const { events } = await operator.get<{ events: { type: string }[] }>('/events?limit=1000');
  const types = events.map(({ type }) => type);
  const told = types.slice(types.lastIndexOf('boot.parked')).filter((type) => type.startsWith('boot.'));
  t.same(told.slice(0, 4), ['boot.parked', 'boot.ordered', 'boot.claimed', 'boot.stage'], 'it had its order at once');
  const [admit, order] = stages;
  const ms = Date.parse(order?.endedAt ?? '') - Date.parse(admit?.startedAt ?? '');
  t.comment(`${String(ms)} ms from the admission of the request until the machine had its order (aim: 300)`);
  t.comment(
    stages
      .map((stage) => `${stage.name} ${String(Date.parse(stage.endedAt ?? '') - Date.parse(stage.startedAt))}`)
      .join(', '),
  );
}

interface Parked {
  readonly since: string;
  readonly seenAt: string;
  readonly ramdisk: string;
  readonly image: string | null;
}

async function parkedOf(site: Site, id: string): Promise<Parked> {
  const { parked } = await site.operator.get<{ parked: Parked | null }>(`/machines/${id}`);
  if (parked === null) throw new Error('it does not wait');
  return parked;
}

interface Boot {
  readonly session: string;
  readonly verb: string;
  readonly claimedAt: string | null;
  readonly seenAt: string;
}

/** Newest first. */
async function bootsOf(site: Site, id: string): Promise<readonly Boot[]> {
  return (await site.operator.get<{ boots: Boot[] }>(`/machines/${id}/boots`)).boots;
}

/** When the wire has carried such packets, in Unix milliseconds; the daemon asks for addresses, too, to find other servers. */
async function packets({ directory }: Site, filter: string): Promise<number[]> {
  const lines = await run(['tcpdump', '-n', '-tt', '-r', join(directory, 'packets.pcap'), filter]);
  return lines
    .split('\n')
    .filter(Boolean)
    .map((line) => Number(line.split(' ')[0]) * 1000);
}
