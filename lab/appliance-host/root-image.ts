import { mkdir, readFile, realpath, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { buildKey, cachedArtifact } from '../../images/ramdisk/artifact-cache.ts';
import { buildOsImage } from '../../images/os/build.ts';
import { run } from '../process/run.ts';

/** Where the appliance's host is on the network it is managed by. */
export const MANAGEMENT_ADDRESS = '10.79.0.2';
/** Of its NICs; udev names them by these. */
export const MACS = { provisioning: '52:54:00:78:00:01', management: '52:54:00:78:00:02' } as const;

/** What a machine boots that Rackstart is to be installed on; all are files, to be read only. */
export interface RootImage {
  /** The root file system on a disk without partitions. */
  readonly disk: string;
  readonly kernel: string;
  readonly initrd: string;
  /** Root's SSH key on it, and what `ssh` is to know of it. */
  readonly sshKey: string;
  readonly knownHosts: string;
}

/**
 * Debian with systemd as PID 1, as our own image build makes it, with room for a program, two NICs, iPXE's loaders, and what
 * disk images are converted by. Takes 5 s beside that build; the next call with the same inputs finds it done.
 */
export async function buildRootImage(cacheDirectory: string, progress: (line: string) => void): Promise<RootImage> {
  const image = await buildOsImage({ cacheDirectory, name: 'debian-12', progress });
  const taken = { ...Object.fromEntries(LOADERS.map((path) => [path, path])), ...(await withLibraries(CONVERTERS)) };
  const contents = await run(['sha256sum', ...Object.values(taken)]);
  const key = await buildKey([image.version, contents], [import.meta.dirname]);
  const place = await cachedArtifact({ cacheDirectory, name: 'appliance-host', key }, async (workspace, result) => {
    progress('appliance host: its root file system');
    const disk = join(result, 'root.raw');
    await extractRoot(image, join(workspace, 'disk.raw'), disk);
    await run(['truncate', '--size', '3G', disk]);
    await run(['resize2fs', disk]);
    const debugfs = (commands: readonly string[], ...mode: string[]) =>
      run(['debugfs', ...mode, '-f', '-', disk], { input: `${commands.join('\n')}\n`, cwd: result });

    const files = { ...networkFiles(), ...(await identity(result)) };
    const staged = join(workspace, 'files');
    const copies = Object.entries(taken).map(([path, file]) => `write ${file} ${path}`);
    const commands = ['mkdir /usr/lib/ipxe', ...copies];
    for (const [path, { text, mode }] of Object.entries(files)) {
      await mkdir(dirname(join(staged, path)), { recursive: true });
      await writeFile(join(staged, path), text, { mode });
      commands.push(`write ${join(staged, path)} ${path}`);
    }
    await debugfs(commands, '-w');
    await dumpBoot(debugfs);
    // debugfs reports what it could not do, and ends well: what counts is what is there.
    await run(['e2fsck', '-f', '-n', disk]);
    for (const path of [...Object.keys(taken), ...Object.keys(files)]) await mustExist(disk, path);
  });
  const file = (name: string) => join(place, name);
  return {
    disk: file('root.raw'),
    kernel: file('vmlinuz'),
    initrd: file('initrd'),
    sshKey: file('ssh'),
    knownHosts: file('known_hosts'),
  };
}

// Debian's package ipxe.
const LOADERS = ['/usr/lib/ipxe/undionly.kpxe', '/usr/lib/ipxe/snponly.efi'];

// Of Debian's packages bubblewrap and qemu-utils, which this host has in the same versions.
const CONVERTERS = ['/usr/bin/bwrap', '/usr/bin/qemu-img'];

/** Programs of this host with the libraries they load: where they are to be, and the files here. */
async function withLibraries(programs: readonly string[]): Promise<Record<string, string>> {
  const listed = await run(['ldd', ...programs]);
  const libraries = [...listed.matchAll(/ => (?:\/usr)?(\/lib\/\S+)/g)].map(([, path = '']) => `/usr${path}`);
  const files = await Promise.all(
    [...programs, ...libraries].map(async (path) => [path, await realpath(path)] as const),
  );
  return Object.fromEntries(files);
}

async function extractRoot(image: { path: string; rootPartition: number }, whole: string, disk: string): Promise<void> {
  await run(['zstd', '-dq', '--sparse', image.path, '-o', whole]);
  const { partitiontable } = JSON.parse(await run(['sfdisk', '--json', whole])) as {
    partitiontable: { sectorsize: number; partitions: { start: number; size: number }[] };
  };
  const root = partitiontable.partitions[image.rootPartition - 1];
  if (root === undefined) throw new Error(`the image has no partition ${String(image.rootPartition)}`);
  const part = [`bs=${String(partitiontable.sectorsize)}`, `skip=${String(root.start)}`, `count=${String(root.size)}`];
  await run(['dd', `if=${whole}`, `of=${disk}`, ...part, 'conv=sparse', 'status=none']);
}

interface GuestFile {
  readonly text: string;
  readonly mode: number;
}

function networkFiles(): Record<string, GuestFile> {
  const link = (name: keyof typeof MACS) => `[Match]\nMACAddress=${MACS[name]}\n[Link]\nName=${name}\n`;
  const network = (name: keyof typeof MACS, ...addresses: string[]) =>
    [`[Match]\nName=${name}\n[Network]\nIPv6AcceptRA=no`, ...addresses.map((each) => `Address=${each}`), ''].join('\n');
  const texts = {
    'provisioning.link': link('provisioning'),
    'management.link': link('management'),
    'provisioning.network': network('provisioning', '10.77.0.1/24', 'fd77::1/64'),
    'management.network': network('management', `${MANAGEMENT_ADDRESS}/24`),
  };
  return Object.fromEntries(
    Object.entries(texts).map(([name, text]) => [`/etc/systemd/network/10-${name}`, { text, mode: 0o644 }]),
  );
}

// The same in every machine made from the cache: they live on networks that end with them.
async function identity(result: string): Promise<Record<string, GuestFile>> {
  const text = (name: string) => readFile(join(result, name), 'utf8');
  for (const name of ['ssh', 'host-key']) {
    await run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', join(result, name)]);
  }
  await writeFile(join(result, 'known_hosts'), `${MANAGEMENT_ADDRESS} ${await text('host-key.pub')}`);
  return {
    '/root/.ssh/authorized_keys': { text: await text('ssh.pub'), mode: 0o600 },
    '/etc/ssh/ssh_host_ed25519_key': { text: await text('host-key'), mode: 0o600 },
  };
}

async function dumpBoot(debugfs: (commands: readonly string[]) => Promise<string>): Promise<void> {
  const release = /vmlinuz-(\S+?)\//.exec(await debugfs(['ls -p /boot']))?.[1];
  if (release === undefined) throw new Error('the image has no kernel');
  await debugfs([`dump /boot/vmlinuz-${release} vmlinuz`, `dump /boot/initrd.img-${release} initrd`]);
}

async function mustExist(disk: string, path: string): Promise<void> {
  const stat = await run(['debugfs', '-R', `stat ${path}`, disk]);
  if (!/Type: (regular|symlink)/.test(stat)) throw new Error(`${path} is not in the root file system`);
}
