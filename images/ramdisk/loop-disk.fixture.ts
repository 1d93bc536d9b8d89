import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Test } from 'tap';

import type { FakeRamdisk } from './deploy.fixture.ts';
import { fakeRamdisk } from './deploy.fixture.ts';

/** Why no test can have disks here; false where it can. */
export const noLoopDisks =
  process.getuid?.() !== 0
    ? 'needs root, for loop devices'
    : !existsSync('/dev/loop-control') && 'needs loop devices, which this kernel has not';

/** A disk of this host's kernel, on a sparse file. */
export interface LoopDisk {
  /** `/dev/loop3`. */
  readonly device: string;
  partition(number: number): string;
  /** As if the image had been written to a larger disk. */
  enlarge(mib: number): void;
  /** Mounts a partition, runs shell text in it as working directory, and unmounts. */
  inside(number: number, script: string): string;
}

/** `table` is what sfdisk reads; none: an empty disk. Gone when the test ends, and whatever is mounted of it before. */
export function loopDisk(t: Test, mib: number, table?: string): LoopDisk {
  const directory = mkdtempSync(join(MEMORY, 'rs-loop-disk-'));
  const file = join(directory, 'disk');
  writeFileSync(file, '');
  truncateSync(file, mib * MIB);
  if (table !== undefined) execFileSync('sfdisk', ['--quiet', file], { input: table });
  const device = run('losetup', '--find', '--show', '--partscan', file).trim();
  t.teardown(() => {
    unmountAll((_place, source) => source === device || source.startsWith(`${device}p`));
    run('losetup', '--detach', device);
    rmSync(directory, { recursive: true, force: true });
  });
  if (table !== undefined) run('partx', '--add', device);
  const partition = (number: number) => `${device}p${String(number)}`;
  return {
    device,
    partition,
    enlarge(to) {
      truncateSync(file, to * MIB);
      run('losetup', '--set-capacity', device);
    },
    inside(number, script) {
      const place = mkdtempSync(join(directory, 'mnt-'));
      run('mount', partition(number), place);
      try {
        return execFileSync('sh', ['-euc', script], { cwd: place, encoding: 'utf8' });
      } finally {
        run('umount', place);
      }
    },
  };
}

export const FSTAB = `# made by hand
UUID=root-of-the-image / ext4 errors=remount-ro 0 1
LABEL=OLD /srv/data ext4 defaults 0 2
none /tmp tmpfs size=10% 0 0
`;

/** An image with its root on partition 3, which has this fstab. */
export function imageDisk(t: Test, fs: 'ext4' | 'xfs' | 'btrfs'): LoopDisk {
  const disk = loopDisk(t, 400, 'label: gpt\n3 : start=2048\n');
  run(`mkfs.${fs}`, '-q', disk.partition(3));
  disk.inside(3, `mkdir etc; cat >etc/fstab <<'END'\n${FSTAB}END\n`);
  return disk;
}

/** A fake ramdisk that works on such a disk, as if the image had been written to it. */
export function onLoopDisk(t: Test, { device }: LoopDisk, order: Readonly<Record<string, string>>): FakeRamdisk {
  const ramdisk = fakeRamdisk(t);
  const program = (name: string, script: (real: string) => string) => {
    ramdisk.put(`bin/${name}`, `#!/bin/sh\n${script(run('which', name).trim())}\n`);
    chmodSync(ramdisk.path(`bin/${name}`), 0o755);
  };
  // Not every kernel reads partition tables; partx tells it.
  program(
    'blockdev',
    (real) => `if [ "$1" = --rereadpt ]; then exec partx --update --nr 1:16 "$2"; fi\nexec ${real} "$@"`,
  );
  // To resize what is mounted takes CAP_SYS_RESOURCE, which not every sandbox has.
  program(
    'resize2fs',
    (real) => `${real} "$1" || { umount "$NEW" && e2fsck -fp "$1" && ${real} "$1" && mount "$1" "$NEW"; }`,
  );
  symlinkSync('/proc/mounts', ramdisk.path('proc/mounts'));
  t.teardown(() => unmountAll((place) => place.startsWith(ramdisk.path('mnt'))));

  // What stage `disk` leaves.
  ramdisk.put('run/disk', `${device}\n`);
  ramdisk.put('run/roles', `root ${device.replace('/dev/', '')}\n`);
  ramdisk.put('run/data', '');
  ramdisk.put('run/swap', '\n');
  const lines = Object.entries({ kernel_args: 'quiet', ...order }).map(([key, value]) => `${key}=${value}\n`);
  ramdisk.put('run/order', lines.join(''));
  return ramdisk;
}

export function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

const MIB = 1024 * 1024;

// Where syncing takes no time.
const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

// What was mounted last first.
function unmountAll(which: (place: string, source: string) => boolean): void {
  const mounts = readFileSync('/proc/mounts', 'utf8').split('\n').reverse();
  for (const [source = '', place = ''] of mounts.map((line) => line.split(' '))) {
    if (which(place, source)) run('umount', place);
  }
}
