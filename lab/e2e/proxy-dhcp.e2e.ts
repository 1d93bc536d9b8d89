import { join } from 'node:path';

import type { RunningProcess } from '../process/start.ts';
import { startProcess } from '../process/start.ts';
import { run } from '../process/run.ts';
import { until } from '../process/until.ts';
import type { Rack } from '../rack/rack.ts';
import { machineFlow } from './flow.ts';

machineFlow(
  'beside a DHCP server that is not ours, machines on BIOS and UEFI boot into the ramdisk',
  [
    { name: 'bios-1', firmware: 'bios' },
    { name: 'uefi-1', firmware: 'uefi' },
  ],
  async (t, site) => {
    const foreign = await startForeignServer(site.rack, site.directory);
    try {
      const ids = await Promise.all(site.rack.machines.map(({ name }) => site.add(name)));
      await until('both ramdisks to claim their boots', 150_000, async () => {
        const { events } = await site.operator.get<Events>('/events?limit=1000');
        const claimed = events.filter(({ type }) => type === 'boot.claimed').map(({ key }) => key);
        return ids.every((id) => claimed.includes(id));
      });
      for (const { mac, firmware } of site.rack.machines) {
        const given = new RegExp(`DHCPACK\\(eth0\\) 10\\.77\\.0\\.2\\d\\d ${mac}`);
        t.match(foreign.log(), given, `${firmware}: the other server gave the address`);
      }
    } finally {
      await foreign.stop();
    }
  },
  { settings: ['    dhcp: proxy'] },
);

interface Events {
  readonly events: readonly { readonly type: string; readonly key: string }[];
}

/** dnsmasq at 10.77.0.9 in a network namespace of its own, on the rack's switch. It gives addresses, and knows nothing of booting. */
async function startForeignServer(rack: Rack, directory: string): Promise<RunningProcess> {
  const dnsmasq = [
    'dnsmasq --keep-in-foreground --log-facility=- --conf-file=/dev/null --user=root --port=0 --interface=eth0 --log-dhcp',
    '--leasefile-ro --dhcp-authoritative --dhcp-range=10.77.0.200,10.77.0.250,255.255.255.0,10m',
  ].join(' ');
  // Its NIC comes once there is a namespace to put it into.
  const wired = 'until ip link show dev eth0 >/dev/null 2>&1; do sleep 0.1; done';
  const start = `echo waiting; ${wired}; ip address add 10.77.0.9/24 dev eth0; ip link set eth0 up; exec ${dnsmasq}`;
  // A namespace that the rack does not know of is not emptied with it: dnsmasq dies with the flow.
  const argv = rack.exec(['setpriv', '--pdeathsig', 'KILL', 'unshare', '--net', 'sh', '-c', start]);
  const server = await startProcess({ argv, logFile: join(directory, 'foreign.log') });
  await server.line(/waiting/, 5_000);
  const wire = `link add foreign type veth peer name eth0 netns ${String(server.pid)}`;
  await run(rack.exec(['ip', ...wire.split(' ')]));
  await run(rack.exec(['ip', 'link', 'set', 'foreign', 'master', rack.bridge, 'up']));
  await server.line(/DHCP, IP range/, 10_000);
  return server;
}
