import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { Test } from 'tap';

import type { ApplianceHost } from '../appliance-host/host.ts';
import { openApplianceHost } from '../appliance-host/host.ts';
import { packRelease } from '../appliance-host/release.ts';
import { buildRootImage } from '../appliance-host/root-image.ts';
import { tinyDisk } from '../disk/tiny-disk.ts';
import { run } from '../process/run.ts';
import { until } from '../process/until.ts';
import { ApiClient } from '../site/api-client.ts';

const SERVICE = 'rackstart.service';
const PORTS = [
  ['dhcp', 67],
  ['proxydhcp', 4011],
  ['tftp', 69],
] as const;
const UNITS = [SERVICE, ...PORTS.map(([name]) => `rackstart-${name}.socket`)];
const LOADER = '/usr/lib/ipxe/undionly.kpxe';
/** An emulated Node loads the daemon for 15 s, and on a busy host for minutes. */
const START_MS = 300_000;

void test('installed on a machine with systemd as PID 1, the appliance serves by ports that systemd keeps', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rs-host-'));
  const began = performance.now();
  const say = (line: string) => console.error(`${((performance.now() - began) / 1000).toFixed(1)} s  ${line}`);
  const image = await buildRootImage(
    join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'rackstart'),
    say,
  );
  const release = join(directory, 'release.raw');
  await packRelease(release);
  const host = await openApplianceHost(image, release, directory);
  say('the host is up');
  try {
    for (const [title, play] of PLAY) {
      await t.test(title, (t) => play(t, host, directory));
      say(title);
      if (!t.passing()) break;
    }
  } catch (error) {
    t.fail(error instanceof Error ? error.message : String(error));
  }
  if (!t.passing()) await keepEvidence(host, join(directory, 'evidence'));
  await host.close();
  if (t.passing()) await rm(directory, { recursive: true });
});

// One after another on one host: each finds what those before it left.
const PLAY: readonly (readonly [string, (t: Test, host: ApplianceHost, directory: string) => Promise<void>])[] = [
  ['it is installed, and is started when it listens', install],
  ['its ports were opened before it, by systemd, on the provisioning NIC alone', portsOfSystemd],
  ['it answers DHCP and TFTP there, and nothing on the other NIC', answers],
  ['it has qemu-img make a disk of what was uploaded, behind walls of its own', convertsImages],
  ['it may do and see what it needs, and no more', confined],
  [
    'when it stands still systemd kills it, and its successor answers the packet that came meanwhile',
    survivesStandstill,
  ],
  ['it goes with its NIC in time and in order, begins anew with it, and again when it is killed', followsNic],
];

async function install(t: Test, { root }: ApplianceHost): Promise<void> {
  await root('mount -o ro /dev/vdb /mnt');
  await root(
    'mkdir -p /etc/rackstart && sed s/eth1/provisioning/ /mnt/systemd/rackstart.yaml >/etc/rackstart/rackstart.yaml',
  );
  // Nobody boots here: what a ramdisk is made of does not matter, nor that root put it there.
  await root(
    'mkdir -p /var/lib/rackstart/ramdisk && cd /var/lib/rackstart/ramdisk && echo k >vmlinuz && echo i >initrd',
  );
  await root('sh /mnt/systemd/install.sh', { withinMs: START_MS });
  t.equal((await root(`systemctl is-active ${SERVICE}`)).trim(), 'active');
  const status = await root(
    'curl --silent --output /dev/null --write-out %{http_code} http://127.0.0.1:7770/docs/json',
  );
  t.equal(status, '200', 'systemctl came back when it listened, and no sooner');
}

async function portsOfSystemd(t: Test, { root }: ApplianceHost): Promise<void> {
  const started = Number((await shown(root, SERVICE, 'ExecMainStartTimestampMonotonic')) || 0);
  const listening = await root('ss --listening --numeric --udp --processes');
  for (const [name, port] of PORTS) {
    const unit = `rackstart-${name}.socket`;
    t.ok(Number(await shown(root, unit, 'ActiveEnterTimestampMonotonic')) < started, `${unit} came first`);
    t.equal(await shown(root, unit, 'BindToDevice'), 'provisioning');
    const [line = ''] = listening.split('\n').filter((each) => each.includes(`:${String(port)} `));
    t.match(line, new RegExp(`0\\.0\\.0\\.0%provisioning:${String(port)} .*"systemd",pid=1,`));
    t.equal((await root(`systemctl is-enabled ${unit}`)).trim(), 'enabled');
  }
}

async function answers(t: Test, host: ApplianceHost): Promise<void> {
  const key = (await host.root('cat /var/lib/rackstart/operator.key')).trim();
  const api = new ApiClient(host.apiSocket, key);
  const region = await api.post<{ id: string }>('/regions', { name: 'north' });
  await api.post('/subnets', {
    region: region.id,
    role: 'provisioning',
    cidr: '10.77.0.0/24',
    servers: { first: '10.77.0.10', last: '10.77.0.50' },
    leases: { first: '10.77.0.100', last: '10.77.0.150' },
  });
  t.match(await lease(host, 'rack0', 10), LEASED);
  await sameLoader(t, host);
  await t.rejects(lease(host, 'management', 3, 1), /no lease/, 'there is no DHCP on the management network');
}

async function convertsImages(t: Test, { root }: ApplianceHost, directory: string): Promise<void> {
  const [raw, qcow2] = ['disk.raw', 'disk.qcow2'].map((name) => join(directory, name)) as [string, string];
  writeFileSync(raw, tinyDisk(1024 * 1024));
  await run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2]);
  await root('base64 -d >disk.qcow2', { input: readFileSync(qcow2, 'base64') });
  const upload = 'rackstart image upload disk.qcow2 --name tiny --version 1 --json';
  const image = await root(`RACKSTART_KEY_FILE=/var/lib/rackstart/operator.key ${upload}`, { withinMs: START_MS });
  t.match(JSON.parse(image), { sourceFormat: 'qcow2', rawBytes: 1024 * 1024, rootPartition: 1 });
}

async function confined(t: Test, { root }: ApplianceHost): Promise<void> {
  const exposure = await root(`systemd-analyze security --no-pager ${SERVICE}`);
  const [, figure] = /Overall exposure level for rackstart\.service: ([\d.]+)/.exec(exposure) ?? [];
  t.ok(Number(figure) <= 2.5, `exposure ${figure ?? exposure}`);

  const journal = await root(`journalctl --unit ${SERVICE} --no-pager --output cat`);
  t.notMatch(journal, /EPERM|EACCES|EAFNOSUPPORT/, 'it has asked for nothing that it may not');

  const pid = await shown(root, SERVICE, 'MainPID');
  const status = await root(`cat /proc/${pid}/status`);
  const CAP_NET_RAW = (1 << 13).toString(16).padStart(16, '0');
  for (const set of ['CapEff', 'CapPrm', 'CapBnd']) t.match(status, `${set}:\t${CAP_NET_RAW}\n`);
  t.match(status, /^NoNewPrivs:\t1$/m);
  t.match(status, /^Seccomp:\t2$/m);

  await root('useradd --create-home somebody && echo mine >~somebody/diary && chmod -R a+rX ~somebody');
  const inside = `nsenter --target ${pid} --mount setpriv --reuid rackstart --regid rackstart --clear-groups`;
  const may = (command: string) => root(`${inside} sh -c '${command}'`);
  await t.resolves(
    may('cat /etc/rackstart/rackstart.yaml && touch /var/lib/rackstart/here && rm /var/lib/rackstart/here'),
  );
  for (const command of [
    'cat /etc/shadow',
    'cat ~somebody/diary',
    'cat /etc/credstore/rackstart-master-key',
    'ls /root',
    'cat /proc/1/status',
    'touch /opt/rackstart/appliance/here',
    'touch /opt/rackstart/compiled/here',
    'touch /etc/rackstart/here',
    'cat /dev/vda',
  ]) {
    await t.rejects(may(command), /denied|No such file|Read-only|not permitted/, command);
  }
}

async function survivesStandstill(t: Test, host: ApplianceHost): Promise<void> {
  const { root } = host;
  // What opens the database next is the same key, kept another way.
  await root('sh -eu', { input: keyEncryption() });
  await root('rm /etc/credstore/rackstart-master-key');
  const pid = await shown(root, SERVICE, 'MainPID');
  await root(`kill -STOP ${pid}`);
  // One packet, and a client that waits.
  t.match(await lease(host, 'rack0', START_MS / 1_000, 1), LEASED);
  t.not(await shown(root, SERVICE, 'MainPID'), pid);
  t.equal(await shown(root, SERVICE, 'NRestarts'), '1');
  t.match(await root(`journalctl --unit ${SERVICE} --no-pager`), /Watchdog timeout/);
  await sameLoader(t, host);
}

/** What systemd/README.md tells operators to run. */
function keyEncryption(): string {
  const readme = readFileSync(join(import.meta.dirname, '../../systemd/README.md'), 'utf8');
  const commands = /^```sh\n([^`]*systemd-creds encrypt[^`]*)^```$/m.exec(readme)?.[1];
  if (commands === undefined) throw new Error('systemd/README.md does not say how to encrypt the master key');
  return commands;
}

async function followsNic(t: Test, host: ApplianceHost): Promise<void> {
  const { root } = host;
  const driver = '/sys/bus/virtio/drivers/virtio_net';
  const device = (await root('basename "$(readlink -f /sys/class/net/provisioning/device)"')).trim();
  await root(`echo ${device} >${driver}/unbind`);
  const states = async () => Promise.all(UNITS.map((unit) => shown(root, unit, 'ActiveState')));
  await until('service and ports to end', 60_000, async () => (await states()).every((state) => state === 'inactive'));
  t.equal(await shown(root, SERVICE, 'Result'), 'success', 'it ended by itself, within its time');
  t.equal(await shown(root, SERVICE, 'ExecMainStatus'), '0');
  t.equal(await root('ss --listening --numeric --udp --no-header'), '');

  const asService = 'setpriv --reuid=rackstart --regid=rackstart --clear-groups';
  const doctor = `${asService} rackstart doctor --config /etc/rackstart/rackstart.yaml`;
  t.match(await root(doctor, { withinMs: START_MS }), /invariants hold/, 'and left everything in order');

  await root(`echo ${device} >${driver}/bind`);
  const begun = async () => (await states()).every((state) => state === 'active' || state === 'activating');
  await until('service and ports to begin anew', 60_000, begun);

  const running = async (but?: string) => {
    const pid = await shown(root, SERVICE, 'MainPID');
    return pid !== '0' && pid !== but && pid;
  };
  const pid = await until('its process', 60_000, running);
  await root(`kill -KILL ${pid}`);
  await until('another process', 60_000, () => running(pid));
}

async function shown(root: ApplianceHost['root'], unit: string, property: string): Promise<string> {
  return (await root(`systemctl show --value --property ${property} ${unit}`)).trim();
}

const LEASED = /lease of 10\.77\.0\.1\d\d obtained/;

/** What udhcpc has to say; rejects unless it got a lease. */
async function lease({ neighbour }: ApplianceHost, device: string, seconds: number, packets = 3): Promise<string> {
  const patience = ['-n', '-q', '-f', '-t', String(packets), '-T', String(seconds)];
  const client = ['udhcpc', '-i', device, ...patience, '-s', '/bin/true'];
  return run(neighbour(['sh', '-c', `${client.join(' ')} 2>&1`]), { withinMs: START_MS + 10_000 });
}

async function sameLoader(t: Test, { neighbour }: ApplianceHost): Promise<void> {
  const fetched = `curl --silent --show-error --max-time ${String(START_MS / 1_000)} tftp://10.77.0.1/undionly.kpxe`;
  const sum = await run(neighbour(['sh', '-c', `${fetched} | sha256sum`]), { withinMs: START_MS + 10_000 });
  const [digest] = (await run(['sha256sum', LOADER])).split(' ');
  t.equal(sum.split(' ')[0], digest, 'the loader comes by TFTP, whole');
}

async function keepEvidence({ root, serialLog }: ApplianceHost, evidence: string): Promise<void> {
  mkdirSync(evidence);
  copyFileSync(serialLog, join(evidence, 'serial.log'));
  for (const [file, command] of [
    ['journal.log', 'journalctl --boot --no-pager --output short-monotonic'],
    ['units.txt', "systemctl status --no-pager --full 'rackstart*'; true"],
  ] as const) {
    writeFileSync(join(evidence, file), await root(command).catch((error: unknown) => String(error)));
  }
  console.error(`evidence is kept in ${evidence}: serial.log, journal.log, units.txt`);
}
