import { copyFile, mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import { buildKey, cachedArtifact } from './artifact-cache.ts';
import { installedVersions, kernelBehind, requireRoot, run, type KernelPackage } from './host.ts';
import { buildWriter } from './writer.ts';

export interface Ramdisk {
  /** Path of the kernel image. */
  kernel: string;
  /** Path of the initrd. Another cpio archive may follow it, at a multiple of four bytes. */
  initrd: string;
  /** Kernel release and what the ramdisk was built from: two of the same version are the same. */
  version: string;
  /** Of kernel and initrd together: what travels to a machine at each cold boot. */
  bytes: number;
}

/**
 * The deploy ramdisk: Debian's generic kernel, fetched by apt and not installed, and an initrd that initramfs-tools makes
 * from the host's own packages and the scripts of this directory. The second call with the same versions finds it done.
 */
export async function buildRamdisk({
  cacheDirectory,
  progress,
}: {
  cacheDirectory: string;
  /** One line for people, at each step of a build. */
  progress: (line: string) => void;
}): Promise<Ramdisk> {
  const [kernel, tools] = await Promise.all([kernelBehind('linux-image-amd64'), installedVersions(PACKAGES)]);
  const key = await buildKey([kernel.name, kernel.version, tools], [import.meta.dirname]);

  const place = await cachedArtifact({ cacheDirectory, name: 'ramdisk', key }, async (workspace, result) => {
    requireRoot('Building the ramdisk');
    progress(`ramdisk: fetching ${kernel.name} ${kernel.version}`);
    const [tree, writer] = await Promise.all([unpackKernel(kernel, workspace), buildWriter({ cacheDirectory })]);
    progress('ramdisk: making the initrd');
    await copyFile(join(tree, 'boot', `vmlinuz-${kernel.release}`), join(result, 'vmlinuz'));
    const environment = { TMPDIR: workspace, WRITE_CHUNKS: join(writer, 'write-chunks') };
    await makeInitrd(tree, kernel.release, join(result, 'initrd'), environment);
    const bytes = await sizeOf(result);
    if (bytes > LARGEST)
      throw new RackstartError('image.build-failed', `The ramdisk has ${bytes} bytes, allowed are ${LARGEST}`);
    progress(`ramdisk: done, ${(bytes / 1e6).toFixed(1)} MB`);
  });

  return {
    kernel: join(place, 'vmlinuz'),
    initrd: join(place, 'initrd'),
    version: `${kernel.release}-${key.slice(0, 12)}`,
    bytes: await sizeOf(place),
  };
}

/** Kernel and ramdisk together, SPEC B7. */
const LARGEST = 45_000_000;

// Where the ramdisk's programs come from: a new version of any of them makes a new ramdisk.
const PACKAGES = [
  'btrfs-progs',
  'busybox-static',
  'coreutils',
  'curl',
  'dash',
  'e2fsprogs',
  'efibootmgr',
  'fdisk',
  'hdparm',
  'initramfs-tools-core',
  'ipmitool',
  'iproute2',
  'kexec-tools',
  'kmod',
  'libcurl4',
  'libssl3',
  'libzstd1',
  'mdadm',
  'nvme-cli',
  'openssh-client',
  'openssl',
  'smartmontools',
  'tar',
  'tcpdump',
  'udev',
  'util-linux',
  'xfsprogs',
  'zstd',
];

async function unpackKernel(kernel: KernelPackage, workspace: string): Promise<string> {
  const tree = join(workspace, 'kernel');
  // apt would fetch as its own user, who may not write here.
  const asRoot = ['-o', 'APT::Sandbox::User=root'];
  await run('apt-get', ['download', '-q', ...asRoot, `${kernel.name}=${kernel.version}`], { cwd: workspace });
  const archive = (await readdir(workspace)).find((entry) => entry.endsWith('.deb'));
  if (archive === undefined) throw new RackstartError('image.build-failed', `apt fetched no ${kernel.name}`);
  await run('dpkg-deb', ['-x', join(workspace, archive), tree]);
  await run('depmod', ['-b', tree, kernel.release]);
  return tree;
}

// mkinitramfs looks for modules and kernel configuration at the usual places only: in a mount namespace of its own, which
// ends with it, those places are ours.
async function makeInitrd(
  tree: string,
  release: string,
  initrd: string,
  environment: Record<string, string>,
): Promise<void> {
  await mkdir('/lib/modules', { recursive: true });
  const script =
    'mount --bind "$1/lib/modules" /lib/modules && mount --bind "$1/boot" /boot && exec mkinitramfs -d "$2" -o "$3" "$4"';
  const configuration = join(import.meta.dirname, 'initramfs');
  await run('unshare', ['--mount', 'sh', '-c', script, 'sh', tree, configuration, initrd, release], {
    env: environment,
  });
}

async function sizeOf(place: string): Promise<number> {
  const sizes = await Promise.all(['vmlinuz', 'initrd'].map((file) => stat(join(place, file))));
  return sizes.reduce((sum, { size }) => sum + size, 0);
}
