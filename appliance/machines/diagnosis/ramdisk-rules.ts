import { STANDING } from '../watchdog.ts';
import type { BootEvidence } from './evidence.ts';
import { matching, printed, quoted, textOf, told } from './evidence.ts';
import { isBooting } from './hops.ts';
import type { Look, Rule } from './rule.ts';
import { certain } from './rule.ts';

/** In the ramdisk: up to its claim, and what it was ordered to do. */
export const ramdiskRules: readonly Rule[] = [
  {
    cause: 'ramdisk-panic',
    hop: 'claim',
    look: panic,
  },
  {
    cause: 'clock-off',
    hop: 'claim',
    look: (evidence) =>
      distrust(
        evidence,
        ['bad certificate', 'certificate expired'],
        'The machine holds our certificate for not valid at its time, and it is valid from 2000 to 2100',
      ),
  },
  {
    cause: 'ca-unknown',
    hop: 'claim',
    look: (evidence) => distrust(evidence, ['unknown ca'], 'The machine trusts another CA than ours'),
  },
  {
    cause: 'ramdisk-network',
    hop: 'claim',
    look(evidence) {
      const line = matching(printed(evidence, evidence.poweredAt), /rackstart +[0-9.]+ +network FAILED/);
      return line === undefined ? undefined : certain('The ramdisk runs and has no network.', line);
    },
  },
  {
    cause: 'machine-swapped',
    hop: 'claim',
    look(evidence) {
      const refused = told(evidence, 'http', 'claim-refused').findLast(
        (entry) => textOf(entry, 'code') === 'boot.mismatch',
      );
      return refused && certain('The ramdisk claims from another machine than the one that was inspected.', refused);
    },
  },
  {
    cause: 'ramdisk-version',
    hop: 'claim',
    look(evidence) {
      const refused = told(evidence, 'http', 'claim-refused').findLast(({ detail }) => detail['status'] === 426);
      return (
        refused && certain('The ramdisk speaks another version of the boot protocol than this appliance.', refused)
      );
    },
  },
  {
    cause: 'second-claimant',
    hop: 'claim',
    lasting: true,
    look(evidence) {
      const cutOff = evidence.endReason === 'cut-off' || evidence.failure?.code === 'boot.claim-conflict';
      if (!cutOff) return undefined;
      const claims = told(evidence, 'http', 'claim', 'claim-refused').slice(-2);
      return certain('This boot was claimed twice, under two names: both were cut off.', ...claims);
    },
  },
  {
    cause: 'image-chunk-altered',
    hop: 'work',
    look: (evidence) =>
      said(evidence, 'image.altered', 'A part of the image came again and again with another content'),
  },
  {
    cause: 'image-map-altered',
    hop: 'work',
    look: (evidence) => said(evidence, 'image.digest', 'The map of the image is not the one that was ordered'),
  },
  {
    cause: 'disk-io-errors',
    hop: 'work',
    look(evidence) {
      const { reason } = stageFailure(evidence) ?? {};
      const lines = [
        reason,
        matching(evidence.log, IO_ERROR),
        matching(printed(evidence, evidence.poweredAt), IO_ERROR),
      ];
      const shown = lines.filter((line) => line !== undefined && IO_ERROR.test(line)) as string[];
      if (shown.length === 0) return undefined;
      return certain('The disk answers with I/O errors.', ...shown);
    },
  },
  ...diskRules(),
  {
    cause: 'image-unfit',
    hop: 'work',
    look: (evidence) => said(evidence, 'image.invalid', 'The image can not be installed as it is'),
  },
  {
    cause: 'image-not-arriving',
    hop: 'work',
    look(evidence) {
      const { stage, reason } = stageFailure(evidence) ?? {};
      if (stage !== 'image' || reason === undefined || !NOT_ARRIVING.test(reason)) return undefined;
      return certain('The image did not arrive at the machine.', reason);
    },
  },
  {
    cause: 'ramdisk-panic',
    hop: 'work',
    look: panic,
  },
  {
    cause: 'machine-hung',
    hop: 'work',
    look: hung,
  },
  {
    cause: 'machine-restarted',
    hop: 'work',
    look: (evidence) => (hung(evidence) === undefined ? restarted(evidence, 'in the middle of its work') : undefined),
  },
];

const IO_ERROR =
  /I\/O error|input\/output error|medium error|unrecovered read error|nvme.{0,40}\b(timeout|controller is down)/i;
const NOT_ARRIVING =
  /did not arrive|could not be fetched|can't be fetched|timed out|connection (refused|reset)|status 5\d\d/i;
const PANIC =
  /Kernel panic - not syncing|end Kernel panic|Unable to handle kernel|machine check.{0,20}(error|exception)/i;

function panic(evidence: BootEvidence): Look | undefined {
  const line = matching(printed(evidence, evidence.poweredAt), PANIC);
  return line === undefined ? undefined : certain("The ramdisk's kernel has stopped in a panic.", line);
}

function hung(evidence: BootEvidence): Look | undefined {
  const standing = told(evidence, 'bmc', STANDING).findLast(({ detail }) => detail['stoodStill'] === true);
  if (standing === undefined) return undefined;
  const then = standing.detail['fired'] === true ? ', and the BMC has reset it' : '';
  return certain(
    `The machine stood still in its work: it did not keep up the BMC's watchdog any more${then}.`,
    standing,
  );
}

function distrust(evidence: BootEvidence, alerts: readonly string[], sentence: string): Look | undefined {
  const broken = told(evidence, 'http', 'tls-refused').filter((entry) => alerts.includes(textOf(entry, 'alert')));
  if (broken.length === 0) return undefined;
  return certain(`${sentence}: it broke off ${String(broken.length)} TLS handshakes.`, ...broken.slice(-2));
}

/** A machine that came through its firmware anew, though nobody had told it to. */
export function restarted(evidence: BootEvidence, when: string): Look | undefined {
  const { claimedAt = Infinity } = evidence;
  const again = told(evidence, 'dhcp', 'discover').find(({ at, detail }) => at > claimedAt && isBooting(detail));
  if (again === undefined || (resetAfter(evidence, claimedAt) ?? Infinity) < again.at) return undefined;
  return certain(`The machine started anew ${when}, and nobody had told it to.`, again);
}

/** When we switched or reset the machine after a moment, by its BMC. */
export function resetAfter(evidence: BootEvidence, moment: number): number | undefined {
  return told(evidence, 'bmc').find(({ at, name }) => at > moment && name.startsWith('Chassis Control'))?.at;
}

/** Too few or too many disks match: as the ramdisk tells it, with what it found. */
function diskRules(): Rule[] {
  const rule = (cause: Rule['cause'], fits: (found: DiskFailure) => boolean, sentence: string): Rule => ({
    cause,
    hop: 'work',
    look(evidence) {
      const { code, reason } = stageFailure(evidence) ?? {};
      if (code !== 'boot.disk-rule' || reason === undefined) return undefined;
      return fits(readDiskFailure(reason)) ? certain(sentence, reason) : undefined;
    },
  });
  const tooFew = ({ matched }: DiskFailure) => matched === 0;
  const allSmaller = ({ least, bytes }: DiskFailure) => bytes.length > 0 && bytes.every((size) => size < least);
  return [
    rule(
      'disk-ambiguous',
      ({ matched }) => matched > 1,
      'More than one disk matches the rule, and none is chosen by guess.',
    ),
    rule(
      'disk-too-small',
      (found) => tooFew(found) && allSmaller(found),
      'Every disk is smaller than the rule asks for.',
    ),
    rule(
      'disk-missing',
      (found) => tooFew(found) && !allSmaller(found),
      'The disk that the rule describes is not there.',
    ),
  ];
}

interface DiskFailure {
  readonly matched: number;
  readonly least: number;
  /** Of each disk that was found. */
  readonly bytes: readonly number[];
}

// As disk.sh writes it: `for root must match 1 disk, and 0 do: size MIN..MAX, …; found: sda (N bytes, …); `.
function readDiskFailure(reason: string): DiskFailure {
  const [, matched = '0'] = /must match 1 disk, and (\d{1,3}) do/.exec(reason) ?? [];
  const [, least = '0'] = /\bsize (\d{1,15})\.\./.exec(reason) ?? [];
  const bytes = [...reason.matchAll(/\((\d{1,15}) bytes/g)].map(([, size = '0']) => Number(size));
  return { matched: Number(matched), least: Number(least), bytes };
}

/** The stage that the ramdisk reported as failed; why, in its own words, quoted. */
export function stageFailure({ endReason, failure }: BootEvidence) {
  const [, stage, code, reason] = /^([a-z]+): ([a-z.-]+): (.*)$/s.exec(endReason ?? '') ?? [];
  if (stage !== undefined && code !== undefined) return { stage, code, reason: quoted(reason ?? '') };
  const { stage: told, said, reason: why } = failure?.details ?? {};
  if (typeof told !== 'string' || typeof why !== 'string') return undefined;
  return { stage: told, code: typeof said === 'string' ? said : (failure?.code ?? ''), reason: quoted(why) };
}

function said(evidence: BootEvidence, code: string, sentence: string): Look | undefined {
  const failed = stageFailure(evidence);
  return failed?.code === code ? certain(`${sentence}.`, failed.reason) : undefined;
}
