import { writeFileSync } from 'node:fs';

import { test } from 'tap';

import { fakeRamdisk } from './deploy.fixture.ts';

const MIB = 1024 * 1024;

// blockdev speaks to block devices alone; a plain file is as good for the rest, a hole punched into it reads as zeros.
const WIPE = 'blockdev() { :; }; progress() { :; }; wipe_disk "$RUN/disk" "$size"; prove_zero "$RUN/disk" "$size"';

test('a wiped disk reads as zeros to its last byte', async (t) => {
  const ramdisk = fakeRamdisk(t);
  for (const size of [8 * MIB, 8 * MIB + 512 * 1024]) {
    writeFileSync(ramdisk.path('run/disk'), Buffer.alloc(size, 0xaa));
    t.equal(await ramdisk.shell(`size=${size}; ${WIPE}; echo "$method"`), 'discard\n');
    t.ok(Buffer.from(ramdisk.read('run/disk'), 'latin1').every((byte) => byte === 0));
  }
});

test('a disk that only claims to have wiped itself is caught', async (t) => {
  const ramdisk = fakeRamdisk(t);
  for (const [what, offset, byte] of [
    ['the first MiB', 0, 1],
    ['the last byte', 8 * MIB - 1, 1],
  ] as const) {
    const content = Buffer.alloc(8 * MIB);
    content[offset] = byte;
    writeFileSync(ramdisk.path('run/disk'), content);
    await t.rejects(
      ramdisk.shell(`size=${8 * MIB}; fallocate() { :; }; ${WIPE}`),
      /FAIL boot.stage-failed .* still holds data after wiping/,
      what,
    );
  }
});

test('a disk that cannot be read back is not called wiped', async (t) => {
  const ramdisk = fakeRamdisk(t);
  await t.rejects(ramdisk.shell(`size=${8 * MIB}; prove_zero "$RUN/none" "$size"`), /FAIL boot.stage-failed/);
});

test('a disk that refuses to unmap gets zeros written', async (t) => {
  const ramdisk = fakeRamdisk(t);
  writeFileSync(ramdisk.path('run/disk'), Buffer.alloc(8 * MIB, 0xaa));
  const zeroes = 'blkdiscard() { echo "$*"; dd if=/dev/zero of="$6" bs=1M count=8 conv=notrunc status=none; }';
  t.equal(
    await ramdisk.shell(`size=${8 * MIB}; fallocate() { return 1; }; ${zeroes}; ${WIPE}; echo "$method"`),
    `--zeroout --offset 0 --length ${8 * MIB} ${ramdisk.path('run/disk')}\nzero\n`,
  );
});
