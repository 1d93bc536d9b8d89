import { draw } from '../../appliance/kernel/seeded.ts';
import type { Facts, Order } from './appliance-link.ts';
import { ApplianceLink, CutOff, StageFailure } from './appliance-link.ts';
import type { Boot } from './boot.ts';
import type { Work } from './install.ts';
import { install } from './install.ts';
import type { InstalledDisk } from './installed-system.ts';
import type { MachineSpec } from './machine-spec.ts';
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
  { url, claimToken, address, ca }: RamdiskStart,
  boot: Boot,
  onErased: () => void,
): Promise<RamdiskEnd> {
  const { trust, faults, notes, say } = boot.deps;
  await boot.enter('ramdisk');
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
      link.note(name, 'failed', { code: error.code, reason: error.message });
      await link.tell();
      await link.log(`${name} failed: ${error.message}\n`);
      throw error;
    }
  };

  link.note('network', 'started');
  link.note('network', 'done');
  link.note('claim', 'started');
  await boot.enter('claim');
  let order = await claim(link, claimToken, boot);
  link.note('claim', 'done');
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

async function claim(link: ApplianceLink, token: string, boot: Boot): Promise<Order> {
  const { machine, faults, ids, notes, seed, say } = boot.deps;
  if (faults.falseClaim !== undefined) notes.count(`fault: false claim, ${faults.falseClaim}`);
  const other = uuidFrom(draw(seed, 'other-uuid', machine.name));
  try {
    const order = await link.claim({
      token: faults.falseClaim === 'token' ? `${token.slice(0, -8)}${'0'.repeat(8)}` : token,
      nonce: ids.random(16).toString('hex'),
      mac: machine.mac.replaceAll(':', '-'),
      uuid: faults.falseClaim === 'uuid' ? other : machine.uuid,
    });
    say(`claimed: ${order['verb']}, generation ${order['generation']}`);
    return order;
  } catch (error) {
    if (!(error instanceof StageFailure)) throw error;
    say(error.message);
    return boot.idle();
  }
}

/** Resolves to a disk when the machine is to leave for the system on it. */
async function obey(order: Order, work: Work): Promise<InstalledDisk | undefined> {
  const { boot, link, stage, onErased } = work;
  const { machine } = boot.deps;
  switch (order['verb']) {
    case 'install':
      return install(order, work);
    case 'inspect':
      await stage('inspect', async () => {
        await boot.enter('inspect');
        const answer = await link.insist('inspection', '/boot/v1/inspection', {
          method: 'POST',
          body: inspection(machine),
        });
        if (answer?.status === 204) return {};
        throw new StageFailure('boot.stage-failed', `the inspection was not taken: status ${answer?.status}`);
      });
      return undefined;
    case 'wipe':
      await stage('wipe', async () => {
        await boot.enter('wipe');
        onErased();
        return { method: 'discard', disks: `${DISK}:discard` };
      });
      return undefined;
    default:
      return undefined; // `wait`: the next order will come
  }
}

const DISK = 'sda';

function inspection({ name, mac, uuid, hardware }: MachineSpec): string {
  return [
    `cores=${hardware.cores}`,
    `memory_kib=${hardware.memoryMib * 1024}`,
    `uuid=${uuid}`,
    `vendor=${hardware.vendor}`,
    `model=${hardware.name}`,
    `serial=${name}`,
    `firmware=${hardware.firmware}`,
    `disk=${DISK}|${hardware.diskGib * 1024 ** 3}|ssd|${name}-0|Simulated`,
    `nic=eth0|${mac}|up|10000`,
    '',
  ].join('\n');
}

function uuidFrom(u: number): string {
  const digits = Math.floor(u * 2 ** 48).toString(16);
  return `00000000-0000-4000-8000-${digits.padStart(12, '0')}`;
}
