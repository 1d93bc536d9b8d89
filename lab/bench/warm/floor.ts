import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import type { OsImage } from '../../../images/os/build.ts';
import type { Ramdisk } from '../../../images/ramdisk/build.ts';
import { concatenateArchives, newcArchive } from '../../../pxe/http/newc.ts';
import { run } from '../../process/run.ts';
import { startProcess } from '../../process/start.ts';
import { until } from '../../process/until.ts';
import type { Rack, RackMachine } from '../../rack/rack.ts';
import { firstBanner } from './first-banner.ts';

/** In seconds since the image was asked for. */
export interface FloorRun {
  /** Until sshd's first word. */
  readonly seconds: number;
  /** Until the image was on the disk. */
  readonly written: number;
}

export interface FloorParts {
  readonly rack: Rack;
  /** One that nobody else uses. */
  readonly machine: RackMachine;
  readonly ramdisk: Ramdisk;
  readonly image: OsImage;
  readonly directory: string;
}

/**
 * What no deploy can go below: in the same ramdisk, on the same hardware, `curl | dd` writes the raw image, and kexec starts its
 * kernel. Nothing is checked, grown, injected or reported; what the system needs to answer is in the image beforehand.
 */
export class Floor {
  readonly #parts: FloorParts;

  private constructor(parts: FloorParts) {
    this.#parts = parts;
  }

  static async open(parts: FloorParts): Promise<Floor> {
    const { directory, image, ramdisk, rack } = parts;
    await mkdir(join(directory, 'www'), { recursive: true });
    const raw = join(directory, 'www', RAW);
    await run(['zstd', '-q', '-d', '--sparse', '-f', image.path, '-o', raw]);
    await makeAnswering(raw, parts);
    const archives = [await readFile(ramdisk.initrd), scriptArchive(image)];
    await writeFile(join(directory, 'initrd'), concatenateArchives(archives));
    const floor = new Floor(parts);
    const argv = ['python3', '-m', 'http.server', String(PORT), '--bind', APPLIANCE];
    await startProcess({
      argv: rack.exec([...argv, '--directory', join(directory, 'www')]),
      logFile: floor.#requests,
      env: { PYTHONUNBUFFERED: '1' },
    }).then((server) => server.line(/Serving HTTP/, 10_000));
    return floor;
  }

  /** Once, on an empty disk. */
  async run(): Promise<FloorRun> {
    const { rack, machine, ramdisk, image, directory } = this.#parts;
    for (const { path, bytes } of machine.disks) {
      truncateSync(path, 0);
      truncateSync(path, bytes);
    }
    const commandLine = readFileSync(join(machine.directory, 'qemu'), 'utf8').trimEnd();
    // Where the network stands in the boot order is for the BMC's program to say; here nothing is booted by firmware.
    const own = commandLine.replace('@network@', '9').split('\n');
    const kernel = ['-kernel', ramdisk.kernel, '-initrd', join(directory, 'initrd'), '-append', RAMDISK_ARGUMENTS];
    const banner = await firstBanner(rack, ADDRESS, join(directory, 'floor-banner.log'));
    const [asked, before] = [this.#timesAsked(), timesWritten(machine)];
    await run(rack.exec([...own, ...kernel]));
    try {
      await until(`the floor to ask for ${image.rawBytes} bytes`, 180_000, () => this.#timesAsked() > asked);
      const began = performance.now();
      const since = () => (performance.now() - began) / 1_000;
      await until('the image to be written', 300_000, () => timesWritten(machine) > before);
      const written = since();
      await banner.said(600_000);
      return { seconds: since(), written };
    } finally {
      const pid = machine.pid();
      if (pid !== undefined) process.kill(pid, 'SIGKILL');
      await until('the floor to be off', 10_000, () => machine.pid() === undefined);
      rmSync(join(machine.directory, 'pid'), { force: true });
      await banner.stop();
    }
  }

  get #requests(): string {
    return join(this.#parts.directory, 'requests.log');
  }

  #timesAsked(): number {
    return readFileSync(this.#requests, 'utf8').split(`GET /${RAW}`).length - 1;
  }
}

function timesWritten({ serialLog }: RackMachine): number {
  return readFileSync(serialLog, 'latin1').split(WRITTEN).length - 1;
}

const WRITTEN = 'floor: written';
const RAW = 'image.raw';
const PORT = 8_099;
const APPLIANCE = '10.77.0.1';
// In no range of the lab's subnet.
const ADDRESS = '10.77.0.5';
// As the appliance's script has them, without what is the boot protocol's.
const RAMDISK_ARGUMENTS = 'boot=rackstart console=ttyS0,115200 quiet';

/** It goes over the initrd, in the place of the deploy script. */
function scriptArchive({ rootPartition, kernelArgs }: OsImage): Buffer {
  const script = `#!/bin/sh
set -eu
for path in /sys/class/net/*; do [ ! -e "$path/device" ] || nic=\${path##*/}; done
ip link set "$nic" up
ip address add ${ADDRESS}/24 dev "$nic"
until [ -b /dev/vda ] && [ "$(cat "/sys/class/net/$nic/carrier")" = 1 ]; do sleep 0.1; done
curl --silent --fail http://${APPLIANCE}:${PORT}/${RAW} | dd of=/dev/vda bs=4M iflag=fullblock oflag=direct conv=fsync status=none
echo '${WRITTEN}'
until blockdev --rereadpt /dev/vda && [ -b /dev/vda${rootPartition} ]; do sleep 0.1; done
mount -t ext4 -o ro /dev/vda${rootPartition} /mnt
kernel=$(echo /mnt/boot/vmlinuz-*)
root=$(blkid -p -o value -s UUID /dev/vda${rootPartition})
kexec --load "$kernel" --initrd="/mnt/boot/initrd.img-\${kernel#/mnt/boot/vmlinuz-}" --command-line="root=UUID=$root ro ${kernelArgs}"
umount /mnt
kexec --exec
`;
  return newcArchive([{ path: 'usr/lib/rackstart/deploy', mode: 0o755, content: Buffer.from(script) }]);
}

/** Address, host key and machine id, as an install injects them. */
async function makeAnswering(raw: string, { directory, machine, image }: FloorParts): Promise<void> {
  const place = (name: string) => join(directory, name);
  const [key, network, id] = [place('host-key'), place('floor.network'), place('machine-id')];
  await run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', key]);
  writeFileSync(network, `[Match]\nMACAddress=${machine.mac}\n[Network]\nDHCP=no\nAddress=${ADDRESS}/24\n`);
  writeFileSync(id, `${'0123456789abcdef'.repeat(2)}\n`);
  const files = {
    '/etc/ssh/ssh_host_ed25519_key': [key, '0100600'],
    '/etc/ssh/ssh_host_ed25519_key.pub': [`${key}.pub`, '0100644'],
    '/etc/systemd/network/10-floor.network': [network, '0100644'],
    '/etc/machine-id': [id, '0100444'],
  };
  const commands = Object.entries(files).flatMap(([path, [from, mode]]) => [
    `cd ${dirname(path)}`,
    `rm ${path}`,
    `write ${from} ${path.slice(path.lastIndexOf('/') + 1)}`,
    `set_inode_field ${path} mode ${mode}`,
    ...['uid', 'gid'].map((field) => `set_inode_field ${path} ${field} 0`),
  ]);
  writeFileSync(place('commands'), `${commands.join('\n')}\n`);
  const offset = await partitionOffset(raw, image.rootPartition);
  await run(['debugfs', '-w', '-f', place('commands'), `${raw}?offset=${String(offset)}`]);
}

async function partitionOffset(raw: string, number: number): Promise<number> {
  const { partitiontable } = JSON.parse(await run(['sfdisk', '--json', raw])) as {
    partitiontable: { sectorsize: number; partitions: { node: string; start: number }[] };
  };
  const partition = partitiontable.partitions.find(({ node }) => node === `${raw}${String(number)}`);
  if (partition === undefined) throw new Error(`the image has no partition ${String(number)}`);
  return partition.start * partitiontable.sectorsize;
}
