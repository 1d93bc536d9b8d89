import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { SECOND } from '../../appliance/kernel/clock.ts';
import { draw } from '../../appliance/kernel/seeded.ts';
import type { Facts, Order } from './appliance-link.ts';
import { ApplianceLink, CutOff, StageFailure } from './appliance-link.ts';
import type { Boot } from './boot.ts';
import type { BootFaults } from './faults.ts';
import { DISK, STILL_DATA, certificateText, healthText, inspectionText } from './hardware-report.ts';
import type { Work } from './install.ts';
import { install } from './install.ts';
import type { InstalledDisk } from './installed-system.ts';
import type { MachineSpec } from './machine-spec.ts';
import { printAndStop } from './mishaps.ts';
import type { RamdiskStart } from './network-boot.ts';

/** What a ramdisk leaves behind. */
export type RamdiskEnd =
  /** It has left by kexec, into the system on this disk. */
  | { readonly kind: 'installed'; readonly disk: InstalledDisk }
  /** The appliance has ended this boot. */
  | { readonly kind: 'cut off' };

/**
 * A machine's life in the ramdisk, order after order, as `images/ramdisk/deploy` has it. One whose claim fails has no order and does
 * nothing until the power goes, which rejects.
 */
export async function runRamdisk(
  { url, claimToken, address, ca, version }: RamdiskStart,
  boot: Boot,
  onErased: () => void,
): Promise<RamdiskEnd> {
  const { trust, faults, mishap, listened, notes, say } = boot.deps;
  if (mishap === 'panic') return printAndStop(boot, mishap);
  // Consoles are logged into in real time: what a compressed boot prints would be gone by then.
  if (mishap === 'kexec-hang' || mishap === 'system-network') await listened();
  await boot.enter('ramdisk');
  if (mishap === 'clock-1970' || mishap === 'other-ca') return distrust({ url, address, ca }, boot);
  const distrusts = faults.falseClaim === 'ca';
  const link = new ApplianceLink(boot, { url, address, trust: distrusts ? undefined : trust(ca) });
  const stage = async (name: string, work: () => Promise<Facts>) => {
    link.note(name, 'started');
    await link.tell();
    try {
      link.note(name, 'done', await work());
    } catch (error) {
      if (!(error instanceof StageFailure)) throw error;
      notes.count(`failed: ${name}, ${error.code}`);
      say(`${name} failed: ${error.message}`);
      await link.log(`${name} failed: ${error.message}\n`);
      link.note(name, 'failed', { code: error.code, reason: error.message });
      await link.tell();
      throw error;
    }
  };

  link.note('network', 'started');
  link.note('network', 'done');
  link.note('claim', 'started');
  await boot.enter('claim');
  const claimant = { token: claimToken, ramdisk: version };
  let order = await claim(link, claimant, boot);
  link.note('claim', 'done');
  if (mishap === 'claimed-twice')
    await claim(new ApplianceLink(boot, { url, address, trust: trust(ca) }), claimant, boot);
  try {
    for (;;) {
      const disk = await obey(order, { boot, link, stage, onErased }).catch((error: unknown) => {
        if (!(error instanceof StageFailure)) throw error;
      });
      if (disk !== undefined) return { kind: 'installed', disk };
      order = await link.next();
      say(`ordered: ${order['verb']}`);
    }
  } catch (error) {
    if (error instanceof CutOff) return { kind: 'cut off' };
    throw error;
  }
}

async function claim(
  link: ApplianceLink,
  { token, ramdisk }: { token: string; ramdisk: string },
  boot: Boot,
): Promise<Order> {
  const { machine, faults, ids, notes, seed, say } = boot.deps;
  if (faults.falseClaim !== undefined) notes.count(`fault: false claim, ${faults.falseClaim}`);
  const other = uuidFrom(draw(seed, 'other-uuid', machine.name));
  try {
    const order = await link.claim({
      token: faults.falseClaim === 'token' ? `${token.slice(0, -8)}${'0'.repeat(8)}` : token,
      nonce: ids.random(16).toString('hex'),
      mac: machine.mac.replaceAll(':', '-'),
      uuid: faults.falseClaim === 'uuid' ? other : machine.uuid,
      ramdisk,
    });
    say(`claimed: ${order['verb']}, generation ${order['generation']}`);
    return order;
  } catch (error) {
    if (!(error instanceof StageFailure)) throw error;
    say(error.message);
    if (boot.deps.mishap === 'claimed-twice') return {};
    return boot.idle();
  }
}

/**
 * Asks as curl does at midnight of 1 January 1970, where a dead battery leaves a clock, or without our CA: by OpenSSL, which may be told
 * the time, and breaks off by an alert, as Node does not.
 */
async function distrust(
  { url, address, ca }: Pick<RamdiskStart, 'url' | 'address' | 'ca'>,
  boot: Boot,
): Promise<never> {
  const { clock, signal } = boot.deps;
  const { host } = new URL(url);
  const directory = await mkdtemp(join(tmpdir(), 'rs-ca-'));
  try {
    const file = join(directory, 'ca.pem');
    await writeFile(file, ca);
    const belief = boot.deps.mishap === 'other-ca' ? [] : ['-CAfile', file, '-attime', '0'];
    const client = ['s_client', '-connect', host, '-bind', address, '-verify_return_error', ...belief];
    for (;;) {
      await promisify(execFile)('openssl', client, { signal }).catch(() => undefined);
      await clock.sleepUntil(clock.now() + 3 * SECOND, signal);
    }
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Resolves to a disk when the machine is to leave for the system on it. */
async function obey(order: Order, work: Work): Promise<InstalledDisk | undefined> {
  const { stage } = work;
  switch (order['verb']) {
    case 'install':
      return install(order, work);
    case 'inspect':
    case 'wait': // what follows it is the waiting
      await stage('inspect', () => tell('inspection', inspectionText, work));
      await stage('check', () => tell('check', healthText, work));
      return undefined;
    case 'wipe':
      await stage('wipe', () => wipe(work));
      return undefined;
    default:
      return undefined;
  }
}

async function wipe({ boot, link, onErased }: Work): Promise<Facts> {
  const { machine, faults, notes } = boot.deps;
  await boot.enter('wipe');
  if (faults.wipe) notes.count('fault: wipe');
  else onErased();
  const body = certificateText(machine, faults);
  const answer = await link.insist('wiped', '/boot/v1/wiped', { method: 'POST', body });
  if (answer?.status !== 204) {
    throw new StageFailure('boot.stage-failed', `the certificate of ${DISK} was not taken: status ${answer?.status}`);
  }
  if (faults.wipe) throw new StageFailure('boot.stage-failed', `${DISK}: ${STILL_DATA}`);
  return { method: 'discard', disks: `${DISK}:discard` };
}

/** What an inspection or a check has found. */
async function tell(
  what: 'inspection' | 'check',
  found: (machine: MachineSpec, faults: BootFaults) => string,
  { boot, link }: Work,
): Promise<Facts> {
  const { machine, faults, notes } = boot.deps;
  await boot.enter(what === 'inspection' ? 'inspect' : 'check');
  if (what === 'check') for (const fault of faults.health) notes.count(`fault: health, ${fault}`);
  const answer = await link.insist(what, `/boot/v1/${what}`, { method: 'POST', body: found(machine, faults) });
  if (answer?.status === 204) return {};
  throw new StageFailure('boot.stage-failed', `the ${what} was not taken: status ${answer?.status}`);
}

function uuidFrom(u: number): string {
  const digits = Math.floor(u * 2 ** 48).toString(16);
  return `00000000-0000-4000-8000-${digits.padStart(12, '0')}`;
}
