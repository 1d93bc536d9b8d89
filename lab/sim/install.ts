import { hash } from 'node:crypto';
import { Agent } from 'node:http';

import { SECOND } from '../../appliance/kernel/clock.ts';
import type { ApplianceLink, Facts, Order } from './appliance-link.ts';
import { StageFailure } from './appliance-link.ts';
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
    const fits = bytes >= Number(order['disk_min_bytes'] ?? 0) && bytes <= Number(order['disk_max_bytes'] ?? bytes);
    if (fits) return {};
    throw new StageFailure('boot.disk-rule', `no disk fits the rule: sda ${bytes} bytes`);
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

/** The image goes by and its digests are taken; a disk that fails is told as `image.sh` tells it. */
async function writeImage(order: Order, boot: Boot, from: string): Promise<Facts> {
  const { faults, pace } = boot.deps;
  const { image_raw_bytes: raw = '' } = order;
  const began = pace.now();
  const check =
    order['image_map_url'] === undefined ? await wholeImage(order, from, boot) : await chunks(order, from, boot);
  await boot.enter('image');
  if (faults.diskWrite) {
    boot.deps.notes.count('fault: disk write');
    const said = "dd: error writing '/dev/sda': Input/output error";
    throw new StageFailure('boot.stage-failed', `writing to /dev/sda failed: ${said}`);
  }
  check();
  return { bytes: raw, seconds: ((pace.now() - began) / SECOND).toFixed(2) };
}

/** Resolves to what throws when it was another. */
async function wholeImage(order: Order, from: string, boot: Boot): Promise<() => void> {
  const { image_url: url = '', image_sha256: digest, image_bytes } = order;
  const image = await arrived(boot, (signal) => download(url, { from, signal }));
  return () => {
    if (image.sha256 !== digest) {
      throw new StageFailure('image.digest', `the image has the SHA-256 ${image.sha256}, ordered was ${digest}`);
    }
    if (image.bytes !== Number(image_bytes)) {
      throw new StageFailure('image.invalid', `the image has ${image.bytes} bytes, not the ${image_bytes} declared`);
    }
  };
}

/** The map, and each chunk that it names, over one connection. */
async function chunks(order: Order, from: string, boot: Boot): Promise<() => void> {
  const { image_map_url: url = '', image_map_sha256: digest, chunk_url: chunkUrl = '' } = order;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const map = await arrived(boot, (signal) => demand(url, { from, signal, agent }));
    const found = hash('sha256', map);
    if (found !== digest)
      throw new StageFailure('image.digest', `the map has the SHA-256 ${found}, ordered was ${digest}`);
    const named = map.toString('latin1').matchAll(/^chunk .* ([0-9a-f]{64})$/gm);
    for (const [, sha256] of named) {
      const chunk = await arrived(boot, (signal) => download(`${chunkUrl}/${sha256}`, { from, signal, agent }));
      if (chunk.sha256 !== sha256) throw new StageFailure('image.digest', `a chunk is not ${sha256}`);
    }
  } finally {
    agent.destroy();
  }
  return () => undefined;
}

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
      if (tried === TRIES) throw new StageFailure('boot.stage-failed', `the image did not arrive: ${String(error)}`);
      await clock.sleepUntil(clock.now() + PAUSE, signal);
    }
  }
}
