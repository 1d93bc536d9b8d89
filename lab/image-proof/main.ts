// Ramdisk, agent and OS image on one emulated machine, without an appliance: a kernel started directly, a fixture that speaks
// the boot protocol, and orders one after another: inspect, install and start, then wipe. Prints what came when.
//   node lab/image-proof/main.ts [bios|uefi]     as root; the serial log is kept and named when something fails
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';

import { pack } from 'tar-stream';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import type { AgentFile } from '../../images/agent/files.ts';
import { agentFiles } from '../../images/agent/files.ts';
import { buildOsImage } from '../../images/os/build.ts';
import { buildRamdisk } from '../../images/ramdisk/build.ts';
import { openBootCertificate } from '../../pxe/http/certificate.ts';
import { loadRamdisk } from '../../pxe/http/ramdisk-files.ts';
import type { RunningProcess } from '../process/start.ts';
import { startProcess } from '../process/start.ts';
import { startFixtureAppliance } from './fixture-appliance.ts';

const MAC = '52:54:00:77:00:01';
const CREDENTIAL = 'credential-of-the-image-proof-0123456789';
// QEMU's user network: this host is 10.0.2.2 in there, and nothing is routed.
const HOST = '10.0.2.2';

const firmware = process.argv[2] ?? 'bios';
const cacheDirectory = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'rackstart');
const began = performance.now();
const say = (line: string) => console.log(`${((performance.now() - began) / 1000).toFixed(2).padStart(7)}  ${line}`);

const work = mkdtempSync(join(tmpdir(), 'rs-image-proof-'));
const disk = join(work, 'disk.raw');
const ramdisk = await buildRamdisk({ cacheDirectory, progress: say });
const image = await buildOsImage({ cacheDirectory, name: 'debian-12', progress: say });
const certificate = await openBootCertificate({
  directory: join(work, 'ca'),
  addresses: [HOST],
  ids: createIds(systemClock),
});
const { initrd } = await loadRamdisk(join(ramdisk.initrd, '..'), certificate.ca);
writeFileSync(join(work, 'initrd'), initrd.bytes);
execFileSync('truncate', ['-s', '2G', disk]);
copyFileSync('/usr/share/OVMF/OVMF_VARS_4M.fd', join(work, 'vars.fd'));

const appliance = await startFixtureAppliance({
  certificate: { key: certificate.key.reveal(), certificate: certificate.certificate },
  imagePath: image.path,
  files: systemFiles,
  credential: CREDENTIAL,
});
let machine: RunningProcess | undefined;
let reported = 0;
try {
  await inspectThenInstall();
  await startFromDisk();
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
  appliance.order({ verb: 'inspect', generation: 1 });
  machine = await boot('ramdisk');
  const inspection = await seen((path) => path === '/boot/v1/inspection');
  console.log(inspection.text);
  assert.match(inspection.text, /^disk=vda\|2147483648\|hdd\|proof-disk\|$/m);
  assert.match(inspection.text, /^nic=\w+\|52:54:00:77:00:01\|up\|/m);

  appliance.order({
    verb: 'install',
    generation: 2,
    image_url: `http://${HOST}:${appliance.httpPort}/images/${image.sha256}`,
    image_sha256: image.sha256,
    image_bytes: image.bytes,
    image_raw_bytes: image.rawBytes,
    root_partition: image.rootPartition,
    root_fs: image.rootFs,
    kernel_args: image.kernelArgs,
    disk_min_bytes: 1_000_000_000,
  });
  const injected = await seen((_path, form) => form.get('stage') === 'inject' && form.get('status') === 'done');
  const home = await seen((path) => path === '/agent/v1/phone-home');
  assert.equal(home.form.get('host_key'), injected.form.get('host_key'));
  assert.equal(home.form.get('machine_id'), injected.form.get('machine_id'));
  assert.equal(home.form.get('hostname'), 'proof');
  const first = await seen((path) => path === '/agent/v1/heartbeat');
  const second = await seen((path, _form, at) => path === '/agent/v1/heartbeat' && at > first.at);
  await machine.stop();
  say(`heartbeats ${((second.at - first.at) / 1000).toFixed(1)} s apart`);
  assert.ok(Number(second.form.get('disk_total_kib')) > 1_900_000, 'the root was grown');
}

async function startFromDisk(): Promise<void> {
  const before = performance.now();
  machine = await boot('disk');
  await seen((path, _form, at) => path === '/agent/v1/phone-home' && at > before);
  await machine.stop();
}

async function wipe(): Promise<void> {
  appliance.order({ verb: 'wipe', generation: 3 });
  machine = await boot('ramdisk');
  await seen((_path, form) => form.get('stage') === 'wipe' && form.get('status') === 'done');
  appliance.cutOff();
  await machine.ended;
  say('cut off: the machine switched itself off');
  execFileSync('cmp', ['-n', '2147483648', disk, '/dev/zero']);
}

async function seen(matches: (path: string, form: URLSearchParams, at: number) => boolean) {
  const failed = (form: URLSearchParams) => form.get('status') === 'failed';
  const found = await Promise.race([
    appliance.wait(({ path, form, at }) => failed(form) || matches(path, form, at)),
    machine!.ended.then(() => Promise.reject(new Error('the machine ended'))),
    new Promise<never>((_resolve, reject) => setTimeout(reject, 240_000, new Error('waited in vain')).unref()),
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

async function boot(from: 'ramdisk' | 'disk'): Promise<RunningProcess> {
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
  say(`power on, ${firmware}, from ${from}`);
  return startProcess({
    argv: [
      ...['qemu-system-x86_64', '-machine', 'q35,graphics=off,smm=off,hpet=off,vmport=off', '-nodefaults'],
      ...['-accel', 'tcg,thread=multi', '-cpu', 'Nehalem', '-smp', '1', '-m', '1024', '-display', 'none', '-no-reboot'],
      ...['-smbios', 'type=1,manufacturer=Lab,product=Proof,serial=SN1,uuid=4c4c4544-0077-4010-8000-000000000001'],
      ...['-drive', `file=${disk},if=none,id=d0,format=raw,cache=unsafe,discard=unmap`],
      ...['-device', 'virtio-blk-pci,drive=d0,serial=proof-disk'],
      ...['-netdev', 'user,id=n0', '-device', `virtio-net-pci,netdev=n0,mac=${MAC},romfile=`],
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
  const network = `[Match]\nMACAddress=${MAC}\n[Network]\nAddress=10.0.2.15/24\nLinkLocalAddressing=no\n`;
  const url = `https://${HOST}:${appliance.httpsPort}`;
  const files: AgentFile[] = [
    { path: 'etc/hostname', mode: 0o644, content: Buffer.from('proof\n') },
    { path: 'etc/systemd/network/10-proof.network', mode: 0o644, content: Buffer.from(network) },
    { path: 'etc/rackstart/agent.conf', mode: 0o644, content: Buffer.from(`url=${url}\nserver=srv_proof\n`) },
    { path: 'etc/rackstart/agent.header', mode: 0o600, content: Buffer.from(`Authorization: Bearer ${CREDENTIAL}\n`) },
    { path: 'etc/rackstart/ca.pem', mode: 0o644, content: Buffer.from(certificate.ca) },
    ...agentFiles(),
  ];
  for (const { path: name, mode, content, linkTo } of files) {
    if (linkTo === undefined) archive.entry({ name, mode }, content ?? Buffer.alloc(0));
    else archive.entry({ name, mode, type: 'symlink', linkname: linkTo });
  }
  archive.finalize();
  return buffer(archive);
}
