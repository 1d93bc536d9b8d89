import type { BootState } from '../../../pxe/boot-states.ts';
import type { TimelineEntry, TimelineSource } from '../../../pxe/timeline.ts';
import { MINUTE, SECOND } from '../../kernel/clock.ts';
import type { BootEvidence, Printed } from './evidence.ts';
import type { Hop } from './hops.ts';
import { hops } from './hops.ts';

export const OPENED = Date.UTC(2026, 10, 21, 12);
export const UUID = '11111111-2222-4333-8444-555555555555';
export const OTHER_UUID = '99999999-2222-4333-8444-555555555555';

/** An entry so many seconds after the boot was opened. */
export function entry(
  seconds: number,
  source: TimelineSource,
  name: string,
  detail: TimelineEntry['detail'] = {},
): TimelineEntry {
  return { at: OPENED + seconds * SECOND, source, name, detail };
}

export function print(seconds: number, text: string): Printed {
  return { at: OPENED + seconds * SECOND, text };
}

const rom = { kind: 'pxe-rom', architecture: 7, uuid: UUID };
const ipxe = { kind: 'ipxe', architecture: 7, uuid: UUID };
const address = '10.77.0.11';

/** What an install leaves at each hop, when nothing is wrong. */
const healthy: Readonly<Record<Hop, readonly TimelineEntry[]>> = {
  bmc: [
    entry(0.1, 'bmc', 'Open Session', { completionCode: 0 }),
    entry(0.2, 'bmc', 'Get Chassis Status', { completionCode: 0, answer: '200040' }),
    entry(0.3, 'bmc', 'Set System Boot Options (pxe once)', { completionCode: 0 }),
    entry(0.4, 'bmc', 'Get System Boot Options', { completionCode: 0, answer: '01058004000000' }),
    entry(0.5, 'bmc', 'Chassis Control (power up)', { completionCode: 0 }),
    entry(0.6, 'bmc', 'Get Chassis Status', { completionCode: 0, answer: '210040' }),
  ],
  firmware: [entry(10, 'dhcp', 'discover', rom)],
  dhcp: [
    entry(10.1, 'dhcp', 'offer', { address, decision: 'install', boot: 'snponly.efi' }),
    entry(10.2, 'dhcp', 'request', rom),
    entry(10.3, 'dhcp', 'ack', { address, decision: 'install', boot: 'snponly.efi' }),
  ],
  loader: [
    entry(11, 'tftp', 'request', { file: 'snponly.efi' }),
    entry(11.1, 'tftp', 'started', { file: 'snponly.efi' }),
    entry(12, 'tftp', 'done', { file: 'snponly.efi', bytes: 200_000 }),
    entry(13, 'dhcp', 'discover', ipxe),
    entry(13.1, 'dhcp', 'offer', { address, decision: 'install', boot: 'script' }),
    entry(13.2, 'dhcp', 'request', ipxe),
    entry(13.3, 'dhcp', 'ack', { address, decision: 'install', boot: 'script' }),
  ],
  script: [entry(14, 'http', 'script', { from: address, status: 200 })],
  ramdisk: [
    entry(15, 'http', 'kernel', { from: address, status: 200, bytes: 8_000_000 }),
    entry(16, 'http', 'initrd', { from: address, status: 200, bytes: 18_000_000 }),
  ],
  claim: [entry(21, 'http', 'claim', { from: address, status: 200 })],
  work: [
    entry(22, 'ramdisk', 'image started'),
    entry(26, 'ramdisk', 'image done'),
    entry(29, 'ramdisk', 'kexec started'),
  ],
  system: [entry(40, 'agent', 'phone-home')],
  ssh: [],
};

const stateAt: Readonly<Record<Hop, BootState>> = {
  bmc: 'opened',
  firmware: 'opened',
  dhcp: 'opened',
  loader: 'opened',
  script: 'opened',
  ramdisk: 'scripted',
  claim: 'loading',
  work: 'imaging',
  system: 'handed-off',
  ssh: 'booted',
};

export interface Broken extends Partial<Omit<BootEvidence, 'seen' | 'console'>> {
  /** Beside what every boot leaves that has come so far. */
  readonly seen?: readonly TimelineEntry[];
  readonly console?: readonly Printed[];
}

/** An install that stands at this hop; given up by us as late unless told otherwise. */
export function boot(hop: Hop, { seen = [], console = [], ...more }: Broken = {}): BootEvidence {
  const before = hops.slice(0, hops.indexOf(hop));
  const all = [...before.flatMap((each) => healthy[each]), ...seen];
  return {
    machine: { name: 'm1', uuid: UUID, address },
    verb: 'install',
    state: stateAt[hop],
    openedAt: OPENED,
    windowUntil: OPENED + 15 * MINUTE,
    poweredAt: hop === 'bmc' ? undefined : OPENED + 700,
    claimedAt: before.includes('claim') ? OPENED + 21 * SECOND : undefined,
    endedAt: undefined,
    endReason: undefined,
    at: OPENED + 10 * MINUTE,
    failure: { code: 'boot.stage-late', message: 'Machine m1 fell silent.' },
    seen: all.sort((one, other) => one.at - other.at),
    bmcBefore: [],
    console,
    listened: console.length > 0 ? 'heard' : 'none',
    log: '',
    ...more,
  };
}

/** The same at its good end. */
export function doneBoot(): BootEvidence {
  const seen = hops.flatMap((hop) => healthy[hop]);
  return { ...boot('ssh'), seen, state: 'done', endReason: 'done', endedAt: OPENED + MINUTE, failure: undefined };
}
