import { Agent } from 'node:http';

import { SECOND } from '../../appliance/kernel/clock.ts';
import { demand, download } from './ask.ts';
import type { Question } from './ask.ts';
import type { Pinned } from './boot-script.ts';
import { pinnedIn, readBootScript } from './boot-script.ts';
import type { Boot } from './boot.ts';
import { declineAddress, leaseAddress, leaseFromForeign } from './firmware.ts';
import { brokenWire, otherUuid } from './mishaps.ts';
import { readByTftp } from './tftp-client.ts';

/** A ramdisk that was loaded, and is about to start. */
export interface RamdiskStart extends Pinned {
  /** https, no path. */
  readonly url: string;
  readonly claimToken: string;
  /** The machine's own address. */
  readonly address: string;
}

/**
 * ROM, loader, iPXE, script, kernel and initrd: from the first DHCP packet to the ramdisk. Resolves to why not when the firmware is to go
 * on with the disk; rejects when something on the way fails, which firmware answers in the same way.
 */
export async function bootFromNetwork(boot: Boot): Promise<RamdiskStart | string> {
  const { machine, mishap, strays, notes, clock, signal } = boot.deps;
  // The other one of two that share a MAC: the switch sends what comes for it, and for us, to whoever spoke last.
  if (mishap === 'twin')
    await leaseAddress('rom', { ...machine, uuid: otherUuid(machine) }, boot.deps, signal).catch(() => undefined);
  const rom =
    mishap === 'foreign-dhcp' && strays !== undefined
      ? await leaseFromForeign(machine, boot.deps, strays.foreignDhcp, signal)
      : await leaseAddress('rom', machine, boot.deps, signal);
  if (mishap === 'declines') {
    declineAddress(machine, rom, boot.deps);
    return 'somebody else has this address';
  }
  if (rom.bootFile === undefined) return 'DHCP names no loader';
  await boot.enter('loader');
  const { nextServer: server, bootFile: file, address: from } = rom;
  const carries = mishap === 'twin' || mishap === 'tftp-cut' ? 12 : mishap === 'tftp-blocked' ? 0 : Infinity;
  const wire = carries < Infinity ? brokenWire(carries) : boot.deps.wire;
  await notes.timed('tftp', () => readByTftp({ server, file, from, blockSize: BLOCK_SIZE, clock, wire, signal }));

  await boot.enter('ipxe');
  const { address, bootFile: scriptUrl } = await leaseAddress('ipxe', machine, boot.deps, signal);
  if (scriptUrl === undefined) return 'DHCP names no script';
  await boot.enter('script');
  if (mishap === 'slow') await clock.sleepUntil(clock.now() + SLOW, signal);
  // iPXE keeps a connection for what it fetches next.
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const script = await notes.timed('script', () => demand(scriptUrl, { from: address, agent, signal }));
    const ramdisk = readBootScript(script.toString());
    if (ramdisk === undefined) return 'the script leads to the disk';
    const pinned = await loadRamdisk(boot, ramdisk, { from: address, agent, signal });
    return { ...ramdisk, ...pinned, address };
  } finally {
    agent.destroy();
  }
}

// iPXE asks for what fills an Ethernet frame.
const BLOCK_SIZE = 1432;

// Longer than an appliance in a hurry lets tokens live.
const SLOW = 27 * SECOND;

// As the appliance's script has it: five times, three seconds apart.
const TRIES = 5;
const PAUSE = 3 * SECOND;

/**
 * Kernel and initrd, whole, for every machine; all that is kept is what the appliance put into the initrd. On a simulated site both are a few bytes: a
 * site with real ones pays for 26 MB a boot.
 */
async function loadRamdisk(
  { deps: { notes, clock, say, signal } }: Boot,
  { kernelUrl, initrdUrl }: { kernelUrl: string; initrdUrl: string },
  question: Question,
): Promise<Pinned> {
  for (let tried = 1; ; tried++) {
    try {
      await notes.timed('kernel', () => download(kernelUrl, question));
      const { tail } = await notes.timed('initrd', () => download(initrdUrl, question));
      return pinnedIn(tail);
    } catch (error) {
      if (tried === TRIES) throw error;
      say(`the ramdisk could not be loaded, try ${tried}: ${String(error)}`);
      await clock.sleepUntil(clock.now() + PAUSE, signal);
    }
  }
}
