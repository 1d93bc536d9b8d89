import { hash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';

import { test } from 'tap';
import type { Test } from 'tap';

import type { FakeRamdisk } from './deploy.fixture.ts';
import { fakeRamdisk } from './deploy.fixture.ts';
import { loopDisk, noLoopDisks } from './loop-disk.fixture.ts';

const MIB = 1024 * 1024;
const SAMPLED = 6 * MIB;
const SEED = '0123456789abcdef0123456789abcdef';

// blockdev speaks to block devices alone; a plain file is as good for the rest, a hole punched into it reads as zeros.
const PREPARED = `blockdev() { :; }; progress() { :; }; say() { echo "$*" >&2; }; erase_itself() { return 1; }; seed=${SEED}`;
const WIPE = `if wiped "$RUN/disk" "$size"; then echo "$method"; else echo "$method: $unproven"; fi`;

test('a wiped disk reads as zeros to its last byte', async (t) => {
  const ramdisk = fakeRamdisk(t);
  for (const size of [8 * MIB, 8 * MIB + 512 * 1024]) {
    writeFileSync(ramdisk.path('run/disk'), Buffer.alloc(size, 0xaa));
    t.equal(await ramdisk.shell(`size=${size}; ${PREPARED}; ${WIPE}`), 'discard\n');
    t.ok(Buffer.from(ramdisk.read('run/disk'), 'latin1').every((byte) => byte === 0));
  }
});

test('a disk that only claims to have wiped itself is caught', async (t) => {
  const ramdisk = fakeRamdisk(t);
  for (const [what, offset] of [
    ['the first MiB', 0],
    ['the last byte', 8 * MIB - 1],
  ] as const) {
    const content = Buffer.alloc(8 * MIB);
    content[offset] = 1;
    writeFileSync(ramdisk.path('run/disk'), content);
    t.equal(
      await ramdisk.shell(`size=${8 * MIB}; ${PREPARED}; fallocate() { :; }; ${WIPE}`),
      'discard: it still holds data after wiping\n',
      what,
    );
  }
});

test('a disk that cannot be read back, or that refuses zeros, is not called wiped', async (t) => {
  const ramdisk = fakeRamdisk(t);
  const none = `size=${8 * MIB}; ${PREPARED}; fallocate() { :; }; ${WIPE}`;
  t.equal(await ramdisk.shell(none), 'discard: it cannot be read back\n');
  writeFileSync(ramdisk.path('run/disk'), Buffer.alloc(7 * MIB));
  t.equal(await ramdisk.shell(none), 'discard: it cannot be read back\n', 'nor one that is smaller than it says');
  const refusing = `size=${8 * MIB}; ${PREPARED}; fallocate() { return 1; }; blkdiscard() { return 1; }; ${WIPE}`;
  t.equal(await ramdisk.shell(refusing), 'zero: it takes no zeros at byte 0\n');
  const lossy = `size=${8 * MIB}; ${PREPARED}; blockdev() { return 1; }; ${WIPE}`;
  t.equal(await ramdisk.shell(lossy), 'discard: what was written did not reach it\n');
});

test('a disk that refuses to unmap gets zeros written', async (t) => {
  const ramdisk = fakeRamdisk(t);
  writeFileSync(ramdisk.path('run/disk'), Buffer.alloc(8 * MIB, 0xaa));
  const zeroes = 'blkdiscard() { echo "$*"; dd if=/dev/zero of="$6" bs=1M count=8 conv=notrunc status=none; }';
  t.equal(
    await ramdisk.shell(`size=${8 * MIB}; ${PREPARED}; fallocate() { return 1; }; ${zeroes}; ${WIPE}`),
    `--zeroout --offset 0 --length ${8 * MIB} ${ramdisk.path('run/disk')}\nzero\n`,
  );
});

test('a disk that erased itself is believed when it reads as zeros, and gets zeros when it does not', async (t) => {
  const ramdisk = fakeRamdisk(t);
  const itself = (content: string) => `erase_itself() { method=nvme-format; ${content}; }`;
  writeFileSync(ramdisk.path('run/disk'), Buffer.alloc(8 * MIB, 0xaa));
  const zeroed = `fallocate --punch-hole --offset 0 --length ${8 * MIB} "$1"`;
  t.equal(await ramdisk.shell(`size=${8 * MIB}; ${PREPARED}; ${itself(zeroed)}; ${WIPE}`), 'nvme-format\n');
  writeFileSync(ramdisk.path('run/disk'), Buffer.alloc(8 * MIB, 0xaa));
  t.equal(await ramdisk.shell(`size=${8 * MIB}; ${PREPARED}; ${itself(':')}; ${WIPE}`), 'nvme-format+discard\n');
  t.ok(
    readFileSync(ramdisk.path('run/disk')).every((byte) => byte === 0),
    'a disk that lied holds nothing either',
  );
});

test('the places that are read back follow from the seed, and from nothing else', async (t) => {
  const ramdisk = fakeRamdisk(t);
  const places = async (seed: string) => (await ramdisk.shell(`seed=${seed}; places 1000000`)).trim().split('\n');
  const ours = await places(SEED);
  t.equal(ours.length, 64);
  t.ok(new Set(ours).size > 60 && ours.every((place) => Number(place) < 1_000_000));
  t.same(await places(SEED), ours);
  t.notSame(await places('f'.repeat(32)), ours);
});

test('of a disk that holds a single byte at a place that is read back, that byte is found', async (t) => {
  const ramdisk = fakeRamdisk(t);
  const size = 512 * MIB;
  const [place = ''] = (await ramdisk.shell(`seed=${SEED}; places ${size / 65536}`)).split('\n');
  await ramdisk.shell(`truncate -s ${size} "$RUN/disk"
    printf x | dd of="$RUN/disk" bs=1 seek=${Number(place) * 65536 + 65535} conv=notrunc status=none`);
  const silent = `size=${size}; ${PREPARED}; fallocate() { :; }; ${WIPE}`;
  t.equal(await ramdisk.shell(silent), 'discard: it still holds data after wiping\n');
  t.equal(await ramdisk.shell(silent.replace(SEED, 'f'.repeat(32))), 'discard\n', 'another seed looks elsewhere');
});

test('every disk is told of by a certificate, and the first that fails ends the stage', async (t) => {
  const ramdisk = fakeRamdisk(t);
  const told = `${PREPARED}; uptime_seconds() { echo 12.5; }; let_go_of_disks() { :; }
    disks() { printf 'sda\\nsdb\\nsdc\\n'; }; disk_bytes() { echo 512; }; disk_model() { echo M; }; disk_serial() { echo "S-$1"; }
    wiped() { method=zero; head -c ${SAMPLED} /dev/zero >"$RUN/sample"; unproven='it is broken'; [ "$1" != "/dev/$bad" ]; }
    insist() { cat "$RUN/certificate" >>"$RUN/told"; echo 204; }; stage_wipe`;
  ramdisk.put('run/order', `verb=wipe\ngeneration=1\nwipe_seed=${SEED}\n`);
  await ramdisk.shell(`bad=none; ${told}`);
  t.equal(ramdisk.read('run/facts'), 'method=zero\ndisks=sda:zero,sdb:zero,sdc:zero\n');
  const digest = hash('sha256', Buffer.alloc(SAMPLED));
  const certificate = (name: string) =>
    `disk=${name}\nbytes=512\nserial=S-${name}\nmodel=M\nmethod=zero\nseconds=0\nsamples=66\nsampled_bytes=${SAMPLED}\ndigest=${digest}\n`;
  t.equal(
    ramdisk.read('run/told'),
    ['sda', 'sdb', 'sdc'].map((name) => `${certificate(name)}result=passed\n`).join(''),
  );

  ramdisk.put('run/told', '');
  await t.rejects(ramdisk.shell(`bad=sdb; ${told}`), /FAIL boot.stage-failed sdb: it is broken/);
  t.equal(
    ramdisk.read('run/told'),
    `${certificate('sda')}result=passed\n${certificate('sdb')}result=failed\nreason=it is broken\n`,
  );
  await t.rejects(
    ramdisk.shell(`bad=none; complaint() { echo no; }; ${told.replace('echo 204', 'echo 400')}`),
    /the certificate of sda was not taken: status 400 no/,
    'what nobody takes proves nothing',
  );
  ramdisk.put('run/order', 'verb=wipe\ngeneration=1\n');
  await t.rejects(ramdisk.shell(`bad=none; ${told}`), /FAIL boot.protocol/);
});

test('a disk of this kernel, with a file system on it, is wiped', { skip: noLoopDisks }, async (t) => {
  const { device } = loopDisk(t, 64, 'label: gpt\nstart=2048\n');
  const ramdisk = fakeRamdisk(t);
  await makeFileSystem(t, ramdisk, device);
  const script = `size=${64 * MIB}; ${PREPARED.replace('blockdev() { :; };', '')}; ${WIPE.replace('$RUN/disk', device)}`;
  t.match(await ramdisk.shell(script), /^(discard|zero)\n$/);
  const content = readFileSync(device);
  t.equal(content.length, 64 * MIB);
  t.ok(content.every((byte) => byte === 0));
});

async function makeFileSystem(t: Test, ramdisk: FakeRamdisk, device: string): Promise<void> {
  await ramdisk.shell(
    `mke2fs -q -F "${device}"; echo data | dd of=${device} bs=1M seek=40 conv=notrunc,fsync status=none`,
  );
  t.match(
    readFileSync(device)
      .subarray(40 * MIB, 40 * MIB + 5)
      .toString(),
    'data',
  );
}
