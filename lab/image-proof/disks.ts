// The ramdisk on an emulated machine with an NVMe and a SATA disk, both full of something, against a fixture that speaks the boot
// protocol: inspect, check and wipe. Prints what it told, and looks at the disks from outside.
//   node lab/image-proof/disks.ts
// As root, for the ramdisk's build. Both say by SMART how they are, and QEMU's NVMe disk knows Format; neither knows Sanitize or Security Erase.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import { ChunkDirectory } from '../../images/chunk-directory.ts';
import { buildRamdisk } from '../../images/ramdisk/build.ts';
import { openBootCertificate } from '../../pxe/http/certificate.ts';
import { loadRamdisk } from '../../pxe/http/ramdisk-files.ts';
import { startProcess } from '../process/start.ts';
import { startFixtureAppliance } from './fixture-appliance.ts';

const MAC = '52:54:00:77:00:01';
// QEMU's user network: this host is 10.0.2.2 in there, and nothing is routed.
const HOST = '10.0.2.2';
const MIB = 1024 * 1024;
const SIZE = 256 * MIB;

const work = mkdtempSync(join(tmpdir(), 'rs-disk-proof-'));
const cacheDirectory = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'rackstart');
const ramdisk = await buildRamdisk({ cacheDirectory, progress: console.log });
const ids = createIds(systemClock);
const certificate = await openBootCertificate({ directory: join(work, 'ca'), addresses: [HOST], ids });
const { initrd } = await loadRamdisk(join(ramdisk.initrd, '..'), certificate.ca);
writeFileSync(join(work, 'initrd'), initrd.bytes);
const disks = ['nvme', 'sata'].map((name) => join(work, `${name}.raw`));
for (const disk of disks) execFileSync('sh', ['-c', `head -c ${SIZE} /dev/urandom >"$1"`, 'sh', disk]);
const appliance = await startFixtureAppliance({
  certificate: { key: certificate.key.reveal(), certificate: certificate.certificate },
  frozen: new ChunkDirectory(join(work, 'images')),
  files: () => Promise.reject(new Error('nothing is installed here')),
  credential: 'nobody has it',
});
appliance.order({ verb: 'inspect', generation: 1, check_memory_mib: 1024 });
appliance.order({ verb: 'wipe', generation: 2, wipe_seed: '07'.repeat(16) });
const machine = await startProcess({ argv: qemu(), logFile: join(work, 'qemu.log') });
try {
  console.log((await told('/boot/v1/inspection')).text);
  const check = await told('/boot/v1/check');
  console.log(check.text);
  assert.match(check.text, new RegExp(`^disk=nvme0n1\\|${SIZE}\\|proof-nvme\\|ok\\|ok$`, 'm'));
  assert.match(check.text, new RegExp(`^disk=sda\\|${SIZE}\\|proof-sata\\|ok\\|ok$`, 'm'));
  await end();
  const certificates = appliance.received.filter(({ path }) => path === '/boot/v1/wiped').map(({ text }) => text);
  console.log(certificates.join('\n'));
  assert.match(certificates[0] ?? '', /^disk=nvme0n1\n(.*\n)*method=nvme-format(-crypto)?\n(.*\n)*result=passed$/m);
  assert.match(certificates[1] ?? '', /^disk=sda\n(.*\n)*method=(discard|zero)\n(.*\n)*result=passed$/m);
  for (const disk of disks) execFileSync('cmp', ['-n', String(SIZE), disk, '/dev/zero']);
  console.log('both disks hold zeros alone');
  rmSync(work, { recursive: true });
} catch (error) {
  console.error(error, `the serial log is in ${work}`);
  process.exitCode = 1;
} finally {
  await machine.stop();
  appliance.close();
}

function told(path: string) {
  return within(appliance.wait((received) => received.path === path));
}

/** The wipe is done, or has failed. */
async function end(): Promise<void> {
  const { form, text } = await within(
    appliance.wait(({ form: said }) => said.get('stage') === 'wipe' && /done|failed/.test(said.get('status') ?? '')),
  );
  if (form.get('status') === 'failed') throw new Error(text);
}

function within<T>(answer: Promise<T>): Promise<T> {
  const late = new Promise<never>((_resolve, reject) => setTimeout(reject, 240_000, new Error('in vain')).unref());
  return Promise.race([answer, late, machine.ended.then(() => Promise.reject(new Error('the machine ended')))]);
}

function qemu(): string[] {
  const append = [
    'boot=rackstart',
    `rackstart.url=https://${HOST}:${appliance.httpsPort}`,
    'rackstart.token=token-of-the-image-proof-0123456789',
    `rackstart.mac=${MAC.replaceAll(':', '-')} rackstart.ip=10.0.2.15/24`,
    'console=ttyS0,115200 quiet',
  ].join(' ');
  const drives = disks.flatMap((disk, index) => [
    '-drive',
    `file=${disk},if=none,id=d${index},format=raw,cache=unsafe,discard=unmap`,
  ]);
  return [
    ...['qemu-system-x86_64', '-machine', 'q35,graphics=off,smm=off,hpet=off,vmport=off', '-nodefaults'],
    ...['-accel', 'tcg,thread=multi', '-cpu', 'Nehalem', '-smp', '1', '-m', '1024', '-display', 'none', '-no-reboot'],
    ...drives,
    ...['-device', 'nvme,drive=d0,serial=proof-nvme', '-device', 'ide-hd,drive=d1,serial=proof-sata'],
    ...['-netdev', 'user,id=n0', '-device', `virtio-net-pci,netdev=n0,mac=${MAC},romfile=`],
    ...['-object', 'rng-random,filename=/dev/urandom,id=rng0', '-device', 'virtio-rng-pci,rng=rng0'],
    ...['-serial', `file:${join(work, 'serial.log')}`],
    ...['-kernel', ramdisk.kernel, '-initrd', join(work, 'initrd'), '-append', append],
  ];
}
