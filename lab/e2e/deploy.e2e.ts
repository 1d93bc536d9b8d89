import { until } from '../process/until.ts';
import { run } from '../process/run.ts';
import type { Site } from '../site/site.ts';
import { completed, follow, machineFlow } from './flow.ts';

const GIB = 1024 ** 3;

machineFlow(
  'a server on BIOS and one on UEFI, from API call to SSH and back',
  [
    { name: 'bios-1', firmware: 'bios' },
    { name: 'uefi-1', firmware: 'uefi' },
  ],
  async (t, site) => {
    const [bios = '', uefi = ''] = await Promise.all(site.rack.machines.map(({ name }) => site.enrol(name)));
    for (const [id, firmware] of [
      [bios, 'bios'],
      [uefi, 'uefi'],
    ] as const) {
      const { state, uuid, cores, disks } = await site.operator.get<Inspected>(`/machines/${id}`);
      const hardware = site.rack.machine(`${firmware}-1`);
      t.match(
        { state, uuid, cores },
        { state: 'available', uuid: hardware.uuid, cores: 1 },
        `${firmware} was inspected`,
      );
      t.equal(disks[0]?.bytes, 4 * GIB);
    }

    const orders = await Promise.all([site.order('web-1'), site.order('web-2')]);
    const servers = (await Promise.all(orders.map(({ id }) => follow(site, id)))).map(completed);
    t.same(servers.map(({ attempts }) => attempts[0]?.firmware).sort(), ['bios', 'uefi']);
    for (const server of servers) {
      const [ipv4 = '', ipv6 = ''] = server.connection?.addresses ?? [];
      const seen = await site.ssh(
        server,
        'hostname; df -B1 --output=size / | tail -1; ip -o address show scope global',
      );
      const [hostname, bytes, ...addresses] = seen.trim().split('\n');
      t.equal(hostname, server.hostname);
      t.ok(Number(bytes) > 3.5 * GIB, `the root file system fills the disk (${String(bytes)} bytes)`);
      t.match(addresses.join('\n'), `${ipv4}/24`, 'the IPv4 address that the API told');
      t.match(addresses.join('\n'), `${ipv6}/64`, 'the IPv6 address that the API told');
      t.notMatch(addresses.join('\n'), /dynamic/, 'no address is leased');
      t.equal(
        (await site.ssh(server, 'cat /root/.ssh/authorized_keys')).trim().split('\n').length,
        1,
        'one key: the tenant’s',
      );
    }

    const [server] = servers.filter(({ attempts }) => attempts[0]?.firmware === 'bios');
    if (server === undefined) throw new Error('no server on BIOS');
    await t.test('a finished machine that PXE-boots again goes to its disk', async (t) => {
      const before = await bootId(site, server);
      const { serialLog } = site.rack.machine('bios-1');
      await site.ssh(server, 'echo mine > /root/mine; sync');
      await resetToPxe(site, 'bios-1');
      await until('the server to come back from its disk', 180_000, async () => {
        const now = await bootId(site, server).catch(() => before);
        return now !== before;
      });
      t.equal((await site.ssh(server, 'cat /root/mine')).trim(), 'mine', `nothing was installed again (${serialLog})`);
    });

    await t.test('a released server leaves a machine that is off, wiped and free', async (t) => {
      await site.tenant.delete(`/servers/${server.id}`);
      const released = await follow(site, server.id);
      t.equal(released.state, 'deprovisioned');
      await until('the wipe', 240_000, async () => (await site.machine(bios)).state === 'available');
      t.match(await site.machine(bios), { state: 'available', diskState: 'clean' });
      t.equal(site.rack.machine('bios-1').pid(), undefined, 'its power is off');
      const [disk] = site.rack.machine('bios-1').disks;
      await t.resolves(
        run(['cmp', '-n', String(disk?.bytes), disk?.path ?? '', '/dev/zero']),
        'its disk holds zeros alone',
      );
    });
  },
);

interface Inspected {
  readonly state: string;
  readonly uuid: string;
  readonly cores: number;
  readonly disks: readonly { bytes: number }[];
}

async function bootId(site: Site, server: Parameters<Site['ssh']>[0]): Promise<string> {
  return (await site.ssh(server, 'cat /proc/sys/kernel/random/boot_id')).trim();
}

/** What an operator does at the BMC, behind the appliance's back. */
async function resetToPxe(site: Site, name: string): Promise<void> {
  const { bmc } = site.rack.machine(name);
  const ipmitool = (...args: string[]) =>
    run(
      site.rack.exec(['ipmitool', '-I', 'lanplus', '-C', '3', '-H', bmc.address, '-U', bmc.username, '-E', ...args]),
      { env: { IPMI_PASSWORD: bmc.password } },
    );
  await ipmitool('chassis', 'bootdev', 'pxe');
  await ipmitool('chassis', 'power', 'reset');
}
