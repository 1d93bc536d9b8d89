// Ramdisk, agent and OS image on one emulated machine, without an appliance: a kernel started directly, a fixture that speaks
// the boot protocol, and orders one after another: inspect, install and start, log in, then wipe. Prints what came when.
//   node lab/image-proof/main.ts [bios|uefi] [plain|cloud|mirrored]
// As root; `cloud` takes the image with cloud-init, `mirrored` puts its root on two disks, waits until both are in step, and
// starts it from both and from the second alone. The serial log is kept and named when something fails.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';

import { pack } from 'tar-stream';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import type { AgentFile } from '../../images/agent/files.ts';
import { agentFiles } from '../../images/agent/files.ts';
import { ChunkDirectory } from '../../images/chunk-directory.ts';
import { freeze } from '../../images/freeze.ts';
import { buildOsImage } from '../../images/os/build.ts';
import { buildRamdisk } from '../../images/ramdisk/build.ts';
import { openBootCertificate } from '../../pxe/http/certificate.ts';
import { loadRamdisk } from '../../pxe/http/ramdisk-files.ts';
import { loadSystemFiles } from '../../templates/system-files.ts';
import { run } from '../process/run.ts';
import type { RunningProcess } from '../process/start.ts';
import { startProcess } from '../process/start.ts';
import { until } from '../process/until.ts';
import { startFixtureAppliance } from './fixture-appliance.ts';

const DISK_BYTES = 2 * 1024 ** 3;
const MAC = '52:54:00:77:00:01';
// On a busy machine of two processors the image with cloud-init took 240 s from power on to the jump into it.
const PATIENCE_MS = 480_000;
const CREDENTIAL = 'credential-of-the-image-proof-0123456789';
// QEMU's user network: this host is 10.0.2.2 in there, and nothing is routed.
const HOST = '10.0.2.2';
const USER_DATA = '#!/bin/sh\necho "user data of $(hostname)" >/root/user-data-ran\n';

const [firmware = 'bios', kind = 'plain'] = process.argv.slice(2);
const mirrored = kind === 'mirrored';
// The plain image has no mdadm.
const cloudInit = kind === 'cloud' || mirrored;
const cacheDirectory = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'rackstart');
const began = performance.now();
const say = (line: string) => console.log(`${((performance.now() - began) / 1000).toFixed(2).padStart(7)}  ${line}`);

const work = mkdtempSync(join(tmpdir(), 'rs-image-proof-'));
const disks = ['disk.raw', ...(mirrored ? ['second.raw'] : [])].map((file) => join(work, file));
const ids = createIds(systemClock);
const ramdisk = await buildRamdisk({ cacheDirectory, progress: say });
const name = cloudInit ? 'debian-12-cloud' : 'debian-12';
const image = await buildOsImage({ cacheDirectory, name, cloudInit, progress: say });
const chunks = new ChunkDirectory(join(work, 'images'));
const raw = join(work, 'image.raw');
execFileSync('zstd', ['-q', '-d', '--sparse', image.path, '-o', raw]);
const frozen = await freeze(raw, { directory: chunks, clock: systemClock, ids, signal: new AbortController().signal });
rmSync(raw);
say('the image is frozen');
const certificate = await openBootCertificate({ directory: join(work, 'ca'), addresses: [HOST], ids });
const { initrd } = await loadRamdisk(join(ramdisk.initrd, '..'), certificate.ca);
writeFileSync(join(work, 'initrd'), initrd.bytes);
execFileSync('truncate', ['-s', `${DISK_BYTES}`, ...disks]);
const sshKey = join(work, 'ssh-key');
execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', sshKey]);
const sshPort = await freePort();
copyFileSync('/usr/share/OVMF/OVMF_VARS_4M.fd', join(work, 'vars.fd'));

const appliance = await startFixtureAppliance({
  certificate: { key: certificate.key.reveal(), certificate: certificate.certificate },
  frozen: chunks,
  files: systemFiles,
  credential: CREDENTIAL,
});
let machine: RunningProcess | undefined;
let reported = 0;
try {
  await inspectThenInstall();
  await startsFrom(disks);
  if (mirrored) await startsFrom(disks.slice(1));
  await wipe();
  say('all of it works');
  rmSync(work, { recursive: true });
} catch (error) {
  say(`FAILED; serial log and disk are in ${work}`);
  console.error(error);
  process.exitCode = 1;
} finally {
  await machine?.stop();
  appliance.close();
}

async function inspectThenInstall(): Promise<void> {
  appliance.order({ verb: 'inspect', generation: 1, check_memory_mib: 1024 });
  machine = await boot('ramdisk');
  const inspection = await seen((path) => path === '/boot/v1/inspection');
  console.log(inspection.text);
  disks.forEach((_, index) => {
    const line = `disk=vd${'ab'.charAt(index)}|${DISK_BYTES}|hdd|proof-disk-${index}|`;
    assert.ok(inspection.text.split('\n').includes(line), line);
  });
  assert.match(inspection.text, /^nic=\w+\|52:54:00:77:00:01\|up\|/m);
  const check = await seen((path) => path === '/boot/v1/check');
  console.log(check.text);
  assert.match(check.text, /^memory_tested_kib=[1-9]\d+\nmemory_wrong_bytes=0$/m);
  assert.match(check.text, /^clock_offset=-?\d$/m);
  assert.match(check.text, /^disk=vda\|2147483648\|proof-disk\|ok\|unknown$/m);

  appliance.order({
    verb: 'install',
    generation: 2,
    image_map_url: `http://${HOST}:${appliance.httpPort}/image/${frozen.digest}/map`,
    image_map_sha256: frozen.digest,
    image_map_bytes: frozen.mapBytes,
    chunk_url: `http://${HOST}:${appliance.httpPort}/chunk`,
    image_raw_bytes: image.rawBytes,
    root_partition: image.rootPartition,
    root_fs: image.rootFs,
    kernel_args: image.kernelArgs,
    disk_min_bytes: 1_000_000_000,
    ...(mirrored && { mirror_min_bytes: 1_000_000_000 }),
  });
  const injected = await seen((_path, form) => form.get('stage') === 'inject' && form.get('status') === 'done');
  const home = await seen((path) => path === '/agent/v1/phone-home');
  assert.equal(home.form.get('host_key'), injected.form.get('host_key'));
  assert.equal(home.form.get('machine_id'), injected.form.get('machine_id'));
  assert.equal(home.form.get('hostname'), 'proof');
  await logIn(String(home.form.get('host_key')));
  const first = await seen((path) => path === '/agent/v1/heartbeat');
  const second = await seen((path, _form, at) => path === '/agent/v1/heartbeat' && at > first.at);
  await machine.stop();
  say(`heartbeats ${((second.at - first.at) / 1000).toFixed(1)} s apart`);
  assert.ok(Number(second.form.get('disk_total_kib')) > 1_900_000, 'the root was grown');
}

/** As the tenant, by the key that the order brought; trusts the host key that was reported, and it alone. */
async function logIn(hostKey: string): Promise<void> {
  const knownHosts = join(work, 'known_hosts');
  writeFileSync(knownHosts, `[127.0.0.1]:${sshPort} ${hostKey}\n`);
  const options = ['BatchMode=yes', 'StrictHostKeyChecking=yes', `UserKnownHostsFile=${knownHosts}`];
  const ssh = [
    'ssh',
    '-i',
    sshKey,
    '-p',
    String(sshPort),
    ...options.flatMap((each) => ['-o', each]),
    'root@127.0.0.1',
  ];
  await until('SSH', 120_000, () =>
    run([...ssh, 'true']).then(
      () => true,
      () => false,
    ),
  );
  say('SSH lets the tenant in');
  const script = await run([...ssh, 'cat /root/.ssh/authorized_keys /etc/hostname; ls /var/lib/cloud']);
  console.log(script);
  if (mirrored) await mirrorIsWhole(ssh);
  if (!cloudInit) return;
  await run([...ssh, 'cloud-init status --wait --long'], { withinMs: 240_000 });
  say('cloud-init is done');
  assert.match(await run([...ssh, 'cat /root/user-data-ran']), /^user data of proof\n$/);
  assert.doesNotMatch(await run([...ssh, 'networkctl status --no-pager --all']), /DHCP/);
}

async function mirrorIsWhole(ssh: readonly string[]): Promise<void> {
  const look = 'findmnt --noheadings --output SOURCE,SIZE / /boot/efi; cat /proc/mdstat';
  console.log(await run([...ssh, look]));
  const detail = await until('both halves of the mirror', PATIENCE_MS, async () => {
    const told = await run([...ssh, 'mdadm --detail /dev/md/root']);
    return /^ *State : (active|clean) *$/m.test(told) && told;
  });
  assert.equal(detail.match(/active sync +\/dev\/vd[ab]1$/gm)?.length, 2, detail);
  say('both halves of the mirror are in step');
}

async function startsFrom(present: readonly string[]): Promise<void> {
  const before = performance.now();
  machine = await boot('disk', present);
  await seen((path, _form, at) => path === '/agent/v1/phone-home' && at > before);
  await machine.stop();
}

async function wipe(): Promise<void> {
  appliance.order({ verb: 'wipe', generation: 3, wipe_seed: '07'.repeat(16) });
  machine = await boot('ramdisk');
  const certificate = await seen((path) => path === '/boot/v1/wiped');
  console.log(certificate.text);
  const zeros = createHash('sha256')
    .update(Buffer.alloc(6 * 1024 * 1024))
    .digest('hex');
  assert.match(
    certificate.text,
    new RegExp(`^disk=vda\nbytes=2147483648\nserial=proof-disk\n(.*\n)*digest=${zeros}$`, 'm'),
  );
  await seen((_path, form) => form.get('stage') === 'wipe' && form.get('status') === 'done');
  appliance.cutOff();
  await machine.ended;
  say('cut off: the machine switched itself off');
  for (const disk of disks) execFileSync('cmp', ['-n', `${DISK_BYTES}`, disk, '/dev/zero']);
}

async function seen(matches: (path: string, form: URLSearchParams, at: number) => boolean) {
  const failed = (form: URLSearchParams) => form.get('status') === 'failed';
  const found = await Promise.race([
    appliance.wait(({ path, form, at }) => failed(form) || matches(path, form, at)),
    machine!.ended.then(() => Promise.reject(new Error('the machine ended'))),
    new Promise<never>((_resolve, reject) => setTimeout(reject, PATIENCE_MS, new Error('waited in vain')).unref()),
  ]);
  report();
  if (failed(found.form)) {
    const log = await appliance.wait(({ path }) => path === '/boot/v1/log');
    throw new Error(`${found.text}\n${log.text.slice(-4_000)}`);
  }
  return found;
}

function report(): void {
  for (const { path, form, at } of appliance.received.slice(reported)) {
    const facts = [...form].filter(([name]) => name.length < 20).map(([name, value]) => `${name}=${value}`);
    console.log(
      `${((at - began) / 1000).toFixed(2).padStart(7)}  ${path} ${path.endsWith('/log') ? '' : facts.join(' ').slice(0, 230)}`,
    );
  }
  reported = appliance.received.length;
}

async function boot(from: 'ramdisk' | 'disk', present: readonly string[] = disks): Promise<RunningProcess> {
  const append = [
    'boot=rackstart',
    `rackstart.url=https://${HOST}:${appliance.httpsPort}`,
    'rackstart.token=token-of-the-image-proof-0123456789',
    `rackstart.mac=${MAC.replaceAll(':', '-')} rackstart.ip=10.0.2.15/24`,
    'console=ttyS0,115200 quiet',
  ].join(' ');
  const direct = ['-kernel', ramdisk.kernel, '-initrd', join(work, 'initrd'), '-append', append];
  const pflash = [
    ...['-drive', 'if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd'],
    ...['-drive', `if=pflash,format=raw,unit=1,file=${join(work, 'vars.fd')}`],
  ];
  await mkdir(work, { recursive: true });
  say(`power on, ${firmware}, from ${from}, disks ${present.map((disk) => disks.indexOf(disk)).join()}`);
  return startProcess({
    argv: [
      ...['qemu-system-x86_64', '-machine', 'q35,graphics=off,smm=off,hpet=off,vmport=off', '-nodefaults'],
      ...['-accel', 'tcg,thread=multi', '-cpu', 'Nehalem', '-smp', '1', '-m', '1024', '-display', 'none', '-no-reboot'],
      ...['-smbios', 'type=1,manufacturer=Lab,product=Proof,serial=SN1,uuid=4c4c4544-0077-4010-8000-000000000001'],
      ...present.flatMap((disk) => {
        const index = disks.indexOf(disk);
        return [
          ...['-drive', `file=${disk},if=none,id=d${index},format=raw,cache=unsafe,discard=unmap`],
          ...['-device', `virtio-blk-pci,drive=d${index},serial=proof-disk-${index}`],
        ];
      }),
      ...[
        '-netdev',
        `user,id=n0,hostfwd=tcp:127.0.0.1:${sshPort}-:22`,
        '-device',
        `virtio-net-pci,netdev=n0,mac=${MAC},romfile=`,
      ],
      ...['-object', 'rng-random,filename=/dev/urandom,id=rng0', '-device', 'virtio-rng-pci,rng=rng0'],
      ...['-serial', `file:${join(work, `serial-${from}.log`)}`],
      ...(firmware === 'uefi' ? pflash : []),
      ...(from === 'ramdisk' ? direct : []),
    ],
    logFile: join(work, 'qemu.log'),
  });
}

async function systemFiles(): Promise<Buffer> {
  const archive = pack();
  const system = loadSystemFiles()({
    hostname: 'proof',
    instanceId: 'srv_proof.1',
    interfaces: [{ mac: MAC, role: 'both', addresses: ['10.0.2.15/24'], gateways: ['10.0.2.2'], dns: [] }],
    sshKeys: [readFileSync(`${sshKey}.pub`, 'utf8').trim()],
    userData: USER_DATA,
    agent: { url: `https://${HOST}:${appliance.httpsPort}`, server: 'srv_proof' },
    caPem: certificate.ca,
  });
  const files: AgentFile[] = [
    ...system.map(({ content, ...file }) => ({
      ...file,
      ...(content !== undefined && { content: Buffer.from(content) }),
    })),
    { path: 'etc/rackstart/agent.header', mode: 0o600, content: Buffer.from(`Authorization: Bearer ${CREDENTIAL}\n`) },
    ...agentFiles(),
  ];
  for (const { path: name, mode, content, linkTo } of files) {
    if (name.endsWith('/')) archive.entry({ name, mode, type: 'directory' });
    else if (linkTo === undefined) archive.entry({ name, mode }, content ?? Buffer.alloc(0));
    else archive.entry({ name, mode, type: 'symlink', linkname: linkTo });
  }
  archive.finalize();
  return buffer(archive);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
