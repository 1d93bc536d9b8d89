import { join } from 'node:path';

import { run } from '../process/run.ts';
import type { Timeline } from '../site/server.ts';
import { machineFlow } from './flow.ts';

machineFlow(
  "a machine that nobody enrolled is taken in by the manifest, by UEFI's HTTP boot, without TFTP",
  [{ name: 'http-1', firmware: 'uefi-http' }],
  async (t, site) => {
    const id = await site.discover('http-1');
    const { boots } = await site.operator.get<{ boots: { session: string }[] }>(`/machines/${id}/boots`);
    t.equal(boots.length, 1, 'one boot as a machine that is known, at the first try');
    const { entries, stages } = await site.operator.get<Timeline>(`/boots/${boots[0]?.session ?? ''}`);
    const hops = entries.filter(({ source }) => source === 'http').map(({ name }) => name);
    t.same(
      hops.slice(0, 5),
      ['loader', 'loader', 'script', 'kernel', 'initrd'],
      'the loader is asked for its length, then fetched',
    );
    t.ok(stages.some(({ name }) => name === 'loader'));

    const packets = (filter: string) => run(['tcpdump', '-n', '-r', join(site.directory, 'packets.pcap'), filter]);
    t.match(await packets('udp port 67'), site.rack.machine('http-1').mac, 'its DHCP was recorded');
    t.equal(await packets('udp port 69'), '', 'and no TFTP');
  },
  { settings: ['discovery: { inspect: true }'] },
);
