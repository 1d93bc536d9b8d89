import { until } from '../process/until.ts';
import { run } from '../process/run.ts';
import type { Server } from '../site/server.ts';
import type { Site } from '../site/site.ts';
import { completed, follow, machineFlow } from './flow.ts';

const GIB = 1024 ** 3;

/** Fits no machine with a single disk; and one disk alone, as other flavors have it, no machine with two. */
const STORAGE = {
  ...{ name: 'storage', cores: 1, memoryMib: 512, diskGib: 3, nics: 'same' },
  layout: {
    root: { minBytes: 3 * GIB },
    data: [{ fs: 'ext4', label: 'data', mount: '/srv/data', disk: { maxBytes: 2 * GIB } }],
    swapMib: 64,
  },
};

machineFlow(
  'a server on BIOS and one on UEFI, of an image without and one with cloud-init, from API call to SSH and back',
  [
    { name: 'bios-1', firmware: 'bios', disks: [{ gib: 4 }, { gib: 1 }] },
    { name: 'uefi-1', firmware: 'uefi' },
  ],
  async (t, site) => {
    const [bios = '', uefi = ''] = await Promise.all(site.rack.machines.map(({ name }) => site.enrol(name)));
    for (const [id, firmware] of [
      [bios, 'bios'],
      [uefi, 'uefi'],
    ] as const) {
      const { state, uuid, cores, disks, openIssues } = await site.operator.get<Inspected>(`/machines/${id}`);
      const hardware = site.rack.machine(`${firmware}-1`);
      t.match(
        { state, uuid, cores },
        { state: 'available', uuid: hardware.uuid, cores: 1 },
        `${firmware} was inspected`,
      );
      t.equal(disks[0]?.bytes, 4 * GIB);
      t.same(openIssues, [], 'and checked, with nothing found');
    }

    await site.operator.post('/flavors', STORAGE);
    const orders = await Promise.all([
      site.order('web-1', { flavor: STORAGE.name, userData: USER_DATA }),
      site.order('web-2', { image: 'debian-cloud', userData: USER_DATA }),
    ]);
    const servers = (await Promise.all(orders.map(({ id }) => follow(site, id)))).map(completed);
    t.same(
      servers.map(({ attempts }) => attempts[0]?.firmware),
      ['bios', 'uefi'],
    );
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
    const [plain, cloud] = servers as [Server, Server];
    await until('cloud-init to come to its end', 180_000, async () => /^done/m.test(await userDataRan(site, cloud)));
    t.equal(await userDataRan(site, cloud), 'done by root of web-2\n', 'user data was run, once');
    t.equal(await site.ssh(cloud, 'cloud-init status || :'), 'status: done\n');
    t.equal(await userDataRan(site, plain), '', 'what has no cloud-init leaves user data alone');

    const disks = 'findmnt -no FSTYPE,LABEL /srv/data; swapon --show=NAME,SIZE --noheadings --bytes';
    const [data = '', swap = ''] = (await site.ssh(plain, disks)).split('\n').map((line) => line.replace(/ +/g, ' '));
    t.equal(data, 'ext4 data', 'its data disk is mounted');
    const [swapFile, swapBytes] = swap.split(' ');
    t.equal(swapFile, '/swapfile');
    // The kernel leaves out the header, and pages that lie across blocks.
    t.ok(Number(swapBytes) > 63 * 1024 ** 2, `it swaps to ${swapBytes} bytes`);

    const server = plain;
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
      const { wipes } = await site.operator.get<{ wipes: object[] }>(`/machines/${bios}/wipes`);
      const passed = { method: 'discard', samples: 66, sampledBytes: 6 * 1024 ** 2, result: 'passed' };
      t.match(wipes, [passed, passed], 'a certificate tells of each disk');
      for (const { path, bytes } of site.rack.machine('bios-1').disks) {
        await t.resolves(run(['cmp', '-n', String(bytes), path, '/dev/zero']), 'its disk holds zeros alone');
      }
    });
  },
  { cloudImage: true },
);

const USER_DATA = `#cloud-config
runcmd:
  - echo "done by $(whoami) of $(hostname)" >>/root/user-data-ran
`;

/** What the tenant's user data has left, when it was run. */
function userDataRan(site: Site, server: Server): Promise<string> {
  return site.ssh(server, 'cat /root/user-data-ran 2>/dev/null || :');
}

interface Inspected {
  readonly state: string;
  readonly uuid: string;
  readonly cores: number;
  readonly disks: readonly { bytes: number }[];
  readonly openIssues: readonly unknown[];
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
