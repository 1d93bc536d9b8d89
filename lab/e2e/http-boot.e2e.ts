import { join } from 'node:path';

import { run } from '../process/run.ts';
import type { Timeline } from '../site/server.ts';
import { deployed, machineFlow } from './flow.ts';

machineFlow(
  "a server by UEFI's HTTP boot, from API call to SSH, without TFTP",
  [{ name: 'http-1', firmware: 'uefi-http' }],
  async (t, site) => {
    await site.enrol('http-1');
    const server = await deployed(site, 'web-1');
    t.equal((await site.ssh(server, 'hostname')).trim(), 'web-1');
    t.equal(server.attempts[0]?.firmware, 'uefi');

    const { entries, stages } = await site.tenant.get<Timeline>(`/servers/${server.id}/timeline`);
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
);
