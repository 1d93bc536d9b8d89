import type { BootEvidence } from './evidence.ts';
import { told } from './evidence.ts';

/** The hops of a boot, in the order in which a machine takes them. */
export const hops = [
  'bmc',
  'firmware',
  'dhcp',
  'loader',
  'script',
  'ramdisk',
  'claim',
  'work',
  'system',
  'ssh',
] as const;
export type Hop = (typeof hops)[number];

/** What a hop is, in plain words. */
export const hopNames: Readonly<Record<Hop, string>> = {
  bmc: 'our commands to the BMC',
  firmware: 'the firmware, from the reset to its first DHCP packet',
  dhcp: 'DHCP',
  loader: 'the boot loader, from its request to its first packet',
  script: 'the boot script',
  ramdisk: 'kernel and ramdisk on their way',
  claim: 'the ramdisk, from its start to its claim',
  work: 'what the ramdisk was ordered to do',
  system: 'the new system, from the handoff to its phone-home',
  ssh: 'the proof that the tenant can log in',
};

/** The hop at which the boot stands: the one behind the last that it is known to have passed. Undefined when it has passed all. */
export function brokenHop(evidence: BootEvidence): Hop | undefined {
  const last = hops.findLastIndex((hop) => passed[hop](evidence));
  return hops[last + 1];
}

/** Whether a hop comes before another, or is the same. */
export function isUpTo(hop: Hop, last: Hop): boolean {
  return hops.indexOf(hop) <= hops.indexOf(last);
}

/** What shows that a hop is behind the machine. */
const passed: Readonly<Record<Hop, (evidence: BootEvidence) => boolean>> = {
  bmc: ({ poweredAt }) => poweredAt !== undefined,
  firmware: (evidence) =>
    told(evidence, 'dhcp').some(({ detail, name }) => isBooting(detail) || name === 'relay-refused'),
  dhcp: (evidence) => answers(evidence).length > 0,
  // iPXE in the ROM needs no loader; what is loaded asks for an address again.
  loader: (evidence) => {
    const [loader] = answers(evidence);
    if (loader === undefined) return false;
    if (answers(evidence).some(({ detail }) => detail['boot'] === 'script')) return true;
    return told(evidence, 'dhcp', 'discover').some(({ at, detail }) => at > loader.at && detail['kind'] === 'ipxe');
  },
  script: (evidence) => told(evidence, 'http', 'script').length > 0,
  ramdisk: (evidence) =>
    ['kernel', 'initrd'].every((name) => told(evidence, 'http', name).some(({ detail }) => detail['cut'] !== true)),
  claim: ({ claimedAt }) => claimedAt !== undefined,
  // A boot that was given up since then is `failed`, whatever it had passed.
  work: (evidence) =>
    evidence.state === 'done' || handedOff.has(evidence.state) || told(evidence, 'ramdisk', 'kexec started').length > 0,
  system: (evidence) => evidence.state === 'booted' || told(evidence, 'agent', 'phone-home').length > 0,
  ssh: ({ state }) => state === 'done',
};

const handedOff: ReadonlySet<string> = new Set(['handed-off', 'booted']);

/** What told this machine's firmware, or iPXE, what to boot. Beside another DHCP server our offer is the last that we hear of. */
export function answers(evidence: BootEvidence) {
  return told(evidence, 'dhcp', 'ack', 'offer').filter(
    ({ name, detail }) => typeof detail['boot'] === 'string' && (name === 'ack' || detail['proxy'] === true),
  );
}

/** Whether it is firmware, or iPXE, that speaks. */
export function isBooting({ kind }: Readonly<Record<string, unknown>>): boolean {
  return kind === 'pxe-rom' || kind === 'ipxe' || kind === 'http-boot';
}
