import type { ErrorCode } from '../kernel/errors.ts';
import type { HardwareFault } from './bmc/bmc.ts';

/** Whose fault a failed attempt was; `unknown`: nobody's yet. */
export const parties = ['machine', 'image', 'network', 'service', 'unknown'] as const;
export type Party = (typeof parties)[number];

export interface Verdict {
  readonly party: Party;
  /** Why, for people. */
  readonly because: string;
  /** Whether the same request may come to a better end on another machine. */
  readonly elsewhere: boolean;
}

/** What is known of an attempt that failed. */
export interface Evidence {
  readonly code: ErrorCode;
  /** The stage that failed or was late (`ReportStage`, `WatchedStage`); else the step. */
  readonly stage: string | undefined;
  /** What the event log of the BMC has recorded since this boot was ordered. */
  readonly faults: readonly HardwareFault[];
  /** Whether the machine itself stood still in the ramdisk, as the watchdog of its BMC tells. */
  readonly stoodStill: boolean;
  /** What the machine's kernel said in this boot: its own reason, lines of the ramdisk's log. */
  readonly lines: readonly string[];
  /** Other machines since a while ago. */
  readonly others: Others;
  /** How often this machine failed in the same way, for nobody's fault, since it last served. */
  readonly repeated: number;
}

/** Machines that failed with the same code in the same stage, and those that served: how many in all, with this image, in this rack. */
export interface Others {
  readonly failed: Counted;
  readonly served: Counted;
}

export interface Counted {
  readonly all: number;
  readonly image: number;
  readonly rack: number;
}

/**
 * Whose fault it was. The first rule that holds decides; a machine is blamed for what its own kernel, disk or BMC said, never
 * for what befalls others at the same time, nor for silence alone.
 */
export function blame(evidence: Evidence): Verdict {
  for (const { party, elsewhere, when, because } of rules) {
    const found = when(evidence);
    if (found !== undefined) return { party, elsewhere, because: because(found, evidence) };
  }
  return { party: 'unknown', elsewhere: true, because: 'nothing that was seen names a cause' };
}

interface Rule {
  readonly party: Party;
  readonly elsewhere: boolean;
  /** What it found, for `because`; undefined where it does not hold. */
  readonly when: (evidence: Evidence) => string | undefined;
  readonly because: (found: string, evidence: Evidence) => string;
}

const rules: readonly Rule[] = [
  // What is wrong with an image is wrong with it on every machine.
  ofCodes('image', false, ['image.digest', 'image.invalid'], 'the image itself is refused'),
  // A whole way that alters what it carries does so for all; one machine's cable, card or memory for that machine alone.
  {
    ...{ party: 'network', elsewhere: false },
    when: ({ code, others }) => (code === 'image.altered' && isCommon(others, 'all') ? code : undefined),
    because: (_, { others }) => `chunks come altered to ${machines(others.failed.all)} more`,
  },
  ofCodes('network', true, ['image.altered', 'boot.claim-conflict'], 'what was sent arrived altered, or at another'),
  ofCodes(
    'service',
    false,
    ['image.unreachable', 'image.damaged'],
    'our own image server did not give the image whole',
  ),
  // Any code that no rule names and no machine told: our configuration, our database, a defect.
  {
    ...{ party: 'service', elsewhere: false },
    when: ({ code }) => (isOfMachines(code) ? undefined : code),
    because: (code) => `${code} is no fault of a machine`,
  },
  // So many at once do not break by themselves: the image, a rack's network, or what we send to all of them.
  {
    ...{ party: 'image', elsewhere: false },
    when: ({ stage = '', others }) => (isCommon(others, 'image') && imageStages.has(stage) ? stage : undefined),
    because: (_, { others }) => `with this image ${machines(others.failed.image)} more failed in the same way`,
  },
  // What hardware itself says outweighs a coincidence, until it is more than that.
  {
    ...{ party: 'machine', elsewhere: true },
    when: ({ code, faults, lines, others }) => {
      if (isCommon(others, 'all', COMMON_IN_HARDWARE)) return undefined;
      return recorded(faults) ?? confession(lines) ?? hardware[code];
    },
    because: (found) => found,
  },
  {
    ...{ party: 'network', elsewhere: true },
    when: ({ code, stage = '', others }) => {
      const isOnTheWire = isBmc(code) || (code === 'boot.stage-late' && wireStages.has(stage));
      return isOnTheWire && isCommon(others, 'rack') ? stage : undefined;
    },
    because: (_, { others }) => `in this rack ${machines(others.failed.rack)} more failed in the same way`,
  },
  {
    ...{ party: 'service', elsewhere: false },
    when: ({ code, others }) =>
      isCommon(others, 'all', hardware[code] === undefined ? COMMON : COMMON_IN_HARDWARE) ? code : undefined,
    because: (_, { others }) => `${machines(others.failed.all)} more failed in the same way`,
  },
  {
    ...{ party: 'machine', elsewhere: true },
    when: ({ stoodStill }) => (stoodStill ? 'watchdog' : undefined),
    because: (found) => `it stood still in the ramdisk: the ${found} of its BMC was not kept up any more`,
  },
  {
    ...{ party: 'machine', elsewhere: true },
    when: ({ code }) => (isBmc(code) ? code : undefined),
    because: (code) => `its BMC failed, and went on failing when it was asked again: ${code}`,
  },
  // Silence proves nothing once. A third time in the same place, on a machine on which the image that works elsewhere does not, does.
  {
    ...{ party: 'machine', elsewhere: true },
    when: ({ repeated, others }) => (repeated >= REPEATED && others.served.image > 0 ? 'repeated' : undefined),
    because: (_, { repeated }) =>
      `it failed in the same way ${String(repeated)} times before, with what works on others`,
  },
];

const REPEATED = 2;

/** Where an image makes a difference; `verify` is the step of a server that runs. */
const imageStages: ReadonlySet<string> = new Set(['grow', 'inject', 'kexec', 'boot', 'restart', 'ssh', 'verify']);

/** Where a boot waits for what comes over the network. */
const wireStages: ReadonlySet<string> = new Set(['dhcp', 'loader', 'ramdisk', 'image']);

/** Codes that tell what the hardware did. */
const hardware: Partial<Record<ErrorCode, string>> = {
  'disk.failed': 'its disk failed',
  'boot.mismatch': 'it is not the hardware that was inspected',
};

function ofCodes(party: Party, elsewhere: boolean, codes: readonly ErrorCode[], because: string): Rule {
  return { party, elsewhere, when: ({ code }) => (codes.includes(code) ? code : undefined), because: () => because };
}

/** Codes that a machine can bring about by itself; all others are ours. */
const ofMachines: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'boot.stage-late',
  'boot.stage-failed',
  'boot.mismatch',
  'boot.disk-rule',
  'disk.failed',
  'ssh.unreachable',
  'ssh.host-key',
  'ssh.key-refused',
]);

function isOfMachines(code: ErrorCode): boolean {
  return ofMachines.has(code) || isBmc(code);
}

function isBmc(code: ErrorCode): boolean {
  return code.startsWith('bmc.');
}

/** At least so many others, and more than those that went well meanwhile: of 1,000 deploys 23 disks fail on the same day by themselves. */
const COMMON = 2;
const COMMON_IN_HARDWARE = 5;

function isCommon({ failed, served }: Others, where: keyof Counted, least = COMMON): boolean {
  return failed[where] >= least && failed[where] > served[where];
}

function machines(count: number): string {
  return `${String(count)} machines`;
}

function recorded([first]: readonly HardwareFault[]): string | undefined {
  return first && `its ${first.part}: the event log of its BMC says ${first.event} (entry ${String(first.record)})`;
}

/** What hardware says of itself in the words of Linux and of event logs; the first such line. */
function confession(lines: readonly string[]): string | undefined {
  for (const line of lines) {
    const [part] = confessions.find(([, pattern]) => pattern.test(line)) ?? [];
    if (part !== undefined) return `its ${part}: ${line.trim().slice(0, MOST_TOLD)}`;
  }
  return undefined;
}

const MOST_TOLD = 200;

// Floppies and optical drives that are not there fail on healthy machines: only disks of the kinds that are installed count.
const DISK = String.raw`(?:sd[a-z]+|vd[a-z]+|nvme\d+n\d+|mmcblk\d+)`;

const confessions: readonly (readonly [part: string, pattern: RegExp])[] = [
  ['disk', new RegExp(String.raw`\b(?:I/O|critical (?:medium|target|space allocation)) error, dev ${DISK}\b`)],
  ['disk', new RegExp(String.raw`\bBuffer I/O error on dev(?:ice)? ${DISK}`)],
  [
    'disk',
    /\bnvme\d+: (?:controller is down|Device not ready|Removing after probe failure|Disabling device after reset)/,
  ],
  ['disk', /\bata\d+(?:\.\d+)?: (?:failed command|exception Emask 0x[0-9a-f]*[1-9a-f])/],
  ['disk', /\bDrive Fault\b/],
  ['memory', /\bEDAC .*\bUE\b|\bUncorrect(?:able|ed) (?:ECC|error|hardware memory error)/i],
  ['processor', /\[Hardware Error\]: (?:Machine check|CPU \d+: Machine Check)|\bCPU IERR\b|\bIERR\b/i],
  ['card', /\bPCIe Bus Error: severity=(?:Uncorrect(?:able|ed)|Fatal)|\bAER: .*\bUncorrect(?:able|ed) \(Fatal\)/],
  ['network card', /\bNETDEV WATCHDOG: |\bDetected Hardware Unit Hang\b/],
  ['power supply', /\bPower Supply .*(?:Failure detected|AC lost)/i],
];
