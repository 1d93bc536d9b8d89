import { SECOND } from '../../appliance/kernel/clock.ts';
import type { BmcFaults } from './bmc-server-faults.ts';
import type { Boot } from './boot.ts';
import type { FaultRates, Mishap } from './faults.ts';
import type { MachineSpec } from './machine-spec.ts';

const bmcMishaps: Readonly<Partial<Record<Mishap, BmcFaults>>> = {
  'bmc-mute': { hung: true },
  // It lets us in and reads its power; a login is five packets.
  'bmc-hangs': { hung: (index) => index >= 7 },
  'bmc-drops-flag': { dropsBootFlags: true },
};

export function bmcFaultsOf({ mishap }: MachineSpec): BmcFaults | undefined {
  return mishap && bmcMishaps[mishap];
}

/**
 * Of its power-on of this number, from 1. Somebody who claims in its name does so in every boot, and a system that does not come up
 * does not when it is started from its disk either; a wipe finds the rest mended.
 */
export function mishapOf({ mishap }: MachineSpec, boot: number): Mishap | undefined {
  if (boot === 2) return mishap;
  return boot > 2 && mishap !== undefined && LASTING.has(mishap) ? mishap : undefined;
}

const LASTING: ReadonlySet<Mishap> = new Set(['claimed-twice', 'kexec-hang', 'system-network']);

/** What the machine is, with it. */
export function withMishap(machine: MachineSpec, mishap: Mishap | undefined): MachineSpec {
  if (mishap === 'other-uuid') return { ...machine, uuid: otherUuid(machine) };
  if (mishap === 'arm64') return { ...machine, architecture: 11 };
  if (mishap === 'smaller-disk') return { ...machine, hardware: { ...machine.hardware, diskGib: 1 } };
  return machine;
}

/** What else goes wrong in its boot, with it. */
export function withRates(rates: FaultRates, mishap: Mishap | undefined): FaultRates {
  if (mishap === 'disk-write') return { ...rates, diskWrite: 1 };
  if (mishap === 'chunk-altered') return { ...rates, alteredChunk: 1 };
  const stage = /^dies-in-(.+)$/.exec(mishap ?? '')?.[1];
  return stage === undefined ? rates : { ...rates, hang: { ...rates.hang, [stage]: 1 } };
}

export function otherUuid({ uuid }: MachineSpec): string {
  return uuid.replace(/^.{8}/, '0badcafe');
}

/** A cable that carries so many datagrams, and then none. */
export function brokenWire(most: number): { carry(deliver: () => void): void } {
  let carried = 0;
  return {
    carry(deliver) {
      if (carried++ < most) deliver();
    },
  };
}

const lastWords: Readonly<Partial<Record<Mishap, readonly string[]>>> = {
  'boots-disk': ['Booting from Hard Disk...', 'GRUB loading.', 'Welcome to GRUB!'],
  'no-link': [
    'Intel(R) Boot Agent GE v1.5.50',
    'PXE-E61: Media test failure, check cable',
    'PXE-M0F: Exiting Intel Boot Agent.',
  ],
  panic: [
    '[    1.204113] RAMDISK: incomplete write (4096 != 32768)',
    '[    1.310557] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)',
    '[    1.310801] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---',
  ],
  'system-network': ['', 'Debian GNU/Linux 12 server ttyS0', '', 'server login: '],
};

/** What it prints when that is all that it does from here on, until the power goes: rejects then. Consoles take their time to be heard. */
export async function printAndStop({ deps }: Boot, mishap: Mishap): Promise<never> {
  const { clock, signal, listened, print } = deps;
  await listened();
  await clock.sleepUntil(clock.now() + 2 * SECOND, signal);
  for (const line of lastWords[mishap] ?? []) print(line);
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}
