import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

import { buildKey, cachedArtifact } from '../ramdisk/artifact-cache.ts';
import { installedVersions, kernelBehind, requireRoot, run, runApart } from '../ramdisk/host.ts';
import { aptSettings, candidateVersions, debianSources } from './apt.ts';
import type { ImageKind } from './kinds.ts';
import { cloudImage, plainImage } from './kinds.ts';

export interface OsImage {
  /** Path of the raw disk image, compressed by zstd. */
  path: string;
  /** SHA-256 of that file, hex. */
  sha256: string;
  /** Size of that file. */
  bytes: number;
  /** Size of what it holds: the smallest disk it fits on. */
  rawBytes: number;
  /** Number of the partition with the root file system; on the disk it is the last one, so that it can grow. */
  rootPartition: number;
  rootFs: 'ext4';
  /** For the kernel of this image, beside `root=`. */
  kernelArgs: string;
  /** Kernel release and what the image was built from: two of the same version are the same file. */
  version: string;
}

/**
 * A Debian disk image for BIOS and UEFI, built from the host's own apt sources without a loop mount. It holds no secret and
 * no identity. Takes about 90 s; the next call with the same package versions finds it done.
 */
export async function buildOsImage({
  cacheDirectory,
  name,
  cloudInit = false,
  progress,
}: {
  cacheDirectory: string;
  /** Of the file, such as `debian-12`. */
  name: string;
  /** As Debian's own cloud images are, which run a tenant's user data; else without cloud-init, and quick to start. */
  cloudInit?: boolean;
  /** One line for people, at each step of a build. */
  progress: (line: string) => void;
}): Promise<OsImage> {
  const kind = cloudInit ? cloudImage : plainImage;
  const packages = [...PACKAGES, ...kind.packages];
  const [sources, versions, kernel, tools] = await Promise.all([
    debianSources(),
    candidateVersions(packages),
    kernelBehind(KERNEL),
    installedVersions(TOOLS),
  ]);
  const key = await buildKey([name, ...sources.lines, versions, kernel.version, tools], [import.meta.dirname]);

  const place = await cachedArtifact({ cacheDirectory, name: `image-${name}`, key }, async (workspace, result) => {
    requireRoot('Building an OS image');
    const began = performance.now();
    progress(`image ${name}: installing Debian ${sources.codename} with ${kernel.name}`);
    const tree = join(workspace, 'root');
    const environment = { ...partitionSettings(kind, key), KERNEL_ARGS };
    await install({ tree, workspace, sources, packages, hooks: kind.hooks, environment });

    progress(`image ${name}: making the disk`);
    const raw = join(workspace, 'disk.raw');
    await run(join(import.meta.dirname, 'assemble.sh'), [tree, raw], { env: environment });
    const { size: rawBytes } = await stat(raw);
    await rm(tree, { recursive: true });

    progress(`image ${name}: compressing ${(rawBytes / 1e6).toFixed(0)} MB`);
    const path = join(result, fileName(name));
    await run('zstd', ['-q', '-3', '-T0', raw, '-o', path]);
    const { size: bytes } = await stat(path);
    const facts: Facts = { sha256: await sha256(path), bytes, rawBytes };
    await writeFile(join(result, FACTS), JSON.stringify(facts));
    const seconds = (performance.now() - began) / 1000;
    progress(`image ${name}: done, ${(bytes / 1e6).toFixed(0)} MB in ${seconds.toFixed(0)} s`);
  });

  return {
    path: join(place, fileName(name)),
    ...(JSON.parse(await readFile(join(place, FACTS), 'utf8')) as Facts),
    rootPartition: kind.partitions.root.number,
    rootFs: 'ext4',
    kernelArgs: KERNEL_ARGS,
    version: `${kernel.release}-${key.slice(0, 12)}`,
  };
}

type Facts = Pick<OsImage, 'sha256' | 'bytes' | 'rawBytes'>;

const FACTS = 'image.json';

// A server has one tenant: there is no neighbour to shield from, and the mitigations are half of the boot's CPU time.
const KERNEL_ARGS = 'console=ttyS0,115200 quiet mitigations=off';

// The cloud flavour boots fastest. It knows virtio and NVMe, mlx5 and ena, but no SATA and no Intel NIC.
const KERNEL = 'linux-image-cloud-amd64';

const PACKAGES = [
  KERNEL,
  'ca-certificates',
  'curl',
  'dbus',
  'e2fsprogs',
  'initramfs-tools',
  'iproute2',
  'iputils-ping',
  'openssh-server',
  'systemd',
  'systemd-sysv',
  'udev',
  'zstd',
];

const TOOLS = ['dosfstools', 'e2fsprogs', 'fdisk', 'grub-efi-amd64-bin', 'grub-pc-bin', 'mmdebstrap', 'mtools', 'zstd'];

/** For the scripts: the same build key gives the same identifiers. */
function partitionSettings({ partitions: { bios, esp, root } }: ImageKind, key: string): Record<string, string> {
  return {
    DISK_UUID: uuidOf(`disk ${key}`),
    BIOS_PARTITION: String(bios.number),
    BIOS_MIB: String(bios.mebibytes),
    BIOS_PARTUUID: uuidOf(`bios partition ${key}`),
    ESP_PARTITION: String(esp.number),
    ESP_MIB: String(esp.mebibytes),
    ESP_PARTUUID: uuidOf(`esp partition ${key}`),
    ROOT_PARTITION: String(root.number),
    ROOT_PARTUUID: uuidOf(`root partition ${key}`),
    ROOT_UUID: uuidOf(`root ${key}`),
  };
}

async function install({
  tree,
  workspace,
  sources,
  packages,
  hooks,
  environment,
}: {
  tree: string;
  workspace: string;
  sources: { codename: string; lines: readonly string[] };
  packages: readonly string[];
  hooks: ImageKind['hooks'];
  environment: Record<string, string>;
}): Promise<void> {
  const settings = join(workspace, 'apt.conf');
  await writeFile(settings, await aptSettings());
  await runApart(
    'mmdebstrap',
    [
      '--quiet',
      '--variant=minbase',
      '--mode=root',
      '--format=directory',
      `--include=${packages.join(',')}`,
      `--aptopt=${settings}`,
      '--aptopt=APT::Install-Recommends "false"',
      '--aptopt=Acquire::Languages "none"',
      '--dpkgopt=path-exclude=/usr/share/man/*',
      '--dpkgopt=path-exclude=/usr/share/locale/*',
      '--dpkgopt=path-exclude=/usr/share/doc/*',
      '--dpkgopt=path-include=/usr/share/doc/*/copyright',
      ...hooks.map(({ at, script }) => `--${at}-hook=${shellQuote(join(import.meta.dirname, script))} "$1"`),
      sources.codename,
      tree,
      ...sources.lines,
    ],
    { env: { ...environment, TMPDIR: workspace } },
  );
}

function fileName(name: string): string {
  return `${name}.raw.zst`;
}

function shellQuote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

// Nothing in an image is left to chance (RFC 9562 §5.8 leaves version 8 to us).
function uuidOf(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20, 32)].join(
    '-',
  );
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
