import { hash } from 'node:crypto';
import { Agent } from 'node:http';

import { SECOND } from '../../appliance/kernel/clock.ts';
import type { ApplianceLink, Facts, Order } from './appliance-link.ts';
import { StageFailure } from './appliance-link.ts';
import type { Download } from './ask.ts';
import { demand, download } from './ask.ts';
import type { Boot } from './boot.ts';
import type { InstalledDisk } from './installed-system.ts';
import { writeSystem } from './installed-system.ts';

/** What a ramdisk works with. */
export interface Work {
  readonly boot: Boot;
  readonly link: ApplianceLink;
  /** Does a stage and tells the appliance; rejects when it failed, which was told, too. */
  readonly stage: (name: string, work: () => Promise<Facts>) => Promise<void>;
  /** From here on the disk holds nothing that could boot. */
  readonly onErased: () => void;
}

/** The stages of an install, up to the kexec. Rejects with a `StageFailure`, which was reported. */
export async function install(order: Order, { boot, link, stage, onErased }: Work): Promise<InstalledDisk> {
  const { hardware } = boot.deps.machine;
  const bytes = hardware.diskGib * 1024 ** 3;
  await stage('disk', async () => {
    await boot.enter('disk');
    const { disk_min_bytes: least = '0', disk_max_bytes: most } = order;
    const disks = boot.deps.mishap === 'two-disks' ? ['sda', 'sdb'] : ['sda'];
    const fitting = bytes >= Number(least) && bytes <= Number(most ?? bytes) ? disks.length : 0;
    if (fitting === 1) return {};
    // As disk.sh has it.
    const rule = `size ${least}..${most ?? 'any'}, type any, serial any`;
    const found = disks.map((disk) => `${disk} (${bytes} bytes, ssd, serial ${boot.deps.machine.name}-0); `).join('');
    const what = `for root must match 1 disk, and ${fitting} do: ${rule}; found: ${found}`;
    throw new StageFailure('boot.disk-rule', what);
  });
  await stage('image', () => {
    onErased();
    return writeImage(order, boot, link.address);
  });
  await stage('grow', async () => {
    await boot.enter('grow');
    return { root_bytes: String(bytes - 512 * 1024 ** 2) };
  });
  let disk: InstalledDisk | undefined;
  await stage('inject', async () => {
    const answer = await link.insist('files', '/boot/v1/files');
    if (answer?.status !== 200) {
      throw new StageFailure('boot.stage-failed', `the server's files did not come: status ${answer?.status}`);
    }
    await boot.enter('inject');
    disk = await writeSystem(answer.body, boot.deps.ids);
    return { host_key: disk.hostKey.public, machine_id: disk.machineId };
  });
  link.note('kexec', 'started');
  await link.tell();
  await boot.enter('kexec');
  return disk!;
}

/** The image goes by and its digests are taken; a disk that fails is told as `write-chunks` tells it. */
async function writeImage(order: Order, boot: Boot, from: string): Promise<Facts> {
  const { faults, pace } = boot.deps;
  const { image_raw_bytes: raw = '' } = order;
  const began = pace.now();
  await fetchChunks(order, from, boot);
  await boot.enter('image');
  if (faults.diskWrite) {
    boot.deps.notes.count('fault: disk write');
    throw new StageFailure('disk.failed', 'writing to /dev/sda failed: Input/output error');
  }
  return { bytes: raw, seconds: ((pace.now() - began) / SECOND).toFixed(2) };
}

/** The map, and each chunk that it names, over one connection. */
async function fetchChunks(order: Order, from: string, boot: Boot): Promise<void> {
  const { image_map_url: url = '', image_map_sha256: digest, chunk_url: chunkUrl = '' } = order;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const map = await arrived(boot, (signal) => demand(url, { from, signal, agent }));
    if (boot.deps.mishap === 'map-altered') map[0] = 0;
    const found = hash('sha256', map);
    if (found !== digest)
      throw new StageFailure('image.digest', `the map has the SHA-256 ${found}, ordered was ${digest}`);
    const named = map.toString('latin1').matchAll(/^chunk (\d+) .* ([0-9a-f]{64})$/gm);
    for (const [, offset = '', sha256 = ''] of named) {
      await fetchChunk(boot, { offset, sha256 }, (signal) =>
        download(`${chunkUrl}/${sha256}`, { from, signal, agent }),
      );
    }
  } finally {
    agent.destroy();
  }
}

/** One that comes with another content is fetched again, as `write-chunks` does it. */
async function fetchChunk(
  boot: Boot,
  { offset, sha256 }: { offset: string; sha256: string },
  fetch: (signal: AbortSignal) => Promise<Download>,
): Promise<void> {
  const { faults, notes } = boot.deps;
  for (let time = 1; ; time++) {
    const chunk = await arrived(boot, fetch);
    if (chunk.sha256 === sha256 && !faults.altersChunk(sha256, time)) return;
    notes.count('fault: chunk altered');
    if (time < WRONG_TRIES) continue;
    const what = `the image's chunk at byte ${offset} came ${time} times with another content than its digest says`;
    throw new StageFailure('image.altered', what);
  }
}

const WRONG_TRIES = 3;
const TRIES = 8;
const PAUSE = 2 * SECOND;

// A few kilobytes: what was cut is fetched again as a whole, where the ramdisk goes on at the byte where it was cut.
async function arrived<Thing>(boot: Boot, fetch: (signal: AbortSignal) => Promise<Thing>): Promise<Thing> {
  const { notes, clock, signal } = boot.deps;
  for (let tried = 1; ; tried++) {
    try {
      return await notes.timed('image', () => fetch(signal));
    } catch (error) {
      signal.throwIfAborted();
      if (tried === TRIES) throw new StageFailure('image.unreachable', `the image did not arrive: ${String(error)}`);
      await clock.sleepUntil(clock.now() + PAUSE, signal);
    }
  }
}
