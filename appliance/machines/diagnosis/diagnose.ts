import type { Millis } from '../../kernel/clock.ts';
import { MINUTE } from '../../kernel/clock.ts';
import { READ } from '../event-log.ts';
import { bmcRules } from './bmc-rules.ts';
import type { Blame, Cause } from './causes.ts';
import { causes } from './causes.ts';
import type { BootEvidence } from './evidence.ts';
import { lineOf, quoted, textOf, told } from './evidence.ts';
import type { Hop } from './hops.ts';
import { brokenHop, hopNames, isUpTo } from './hops.ts';
import { loaderRules } from './loader-rules.ts';
import { networkRules } from './network-rules.ts';
import { ramdiskRules, stageFailure } from './ramdisk-rules.ts';
import type { Certainty, Rule } from './rule.ts';
import { systemRules } from './system-rules.ts';

/** What a boot's evidence says of it. Plain JSON. */
export interface Diagnosis {
  /**
   * `healthy`: it did what it was ordered to. `under-way`: it may still. `ended`: it was ended from outside, and nothing shows that it
   * would have failed. `found`: it failed, and why is known. `unknown`: it failed, and the evidence does not say why.
   */
  readonly verdict: 'healthy' | 'under-way' | 'ended' | 'found' | 'unknown';
  /** The hop at which it stands, or broke; null for a healthy one. */
  readonly hop: Hop | null;
  /** All of it in plain words. */
  readonly summary: string;
  /** The earliest break first. What comes after it may be its consequence. */
  readonly findings: readonly Finding[];
  /** Evidence that would have told more, in plain words. */
  readonly missing: readonly string[];
}

export interface Finding {
  readonly cause: Cause;
  readonly hop: Hop;
  readonly blame: Blame;
  readonly certainty: Certainty;
  readonly sentence: string;
  readonly remedy: string;
  /** What it stands on: a line of the timeline, or of what the machine printed, each; strangers' words in quotes. */
  readonly evidence: readonly string[];
}

/** Every rule, by hop. */
export const rules: readonly Rule[] = [...bmcRules, ...networkRules, ...loaderRules, ...ramdiskRules, ...systemRules];

/** Which hop broke, why, and what to do. It looks at nothing but the evidence. */
export function diagnose(evidence: BootEvidence): Diagnosis {
  const verdict = endOf(evidence);
  const hop = failedHop(evidence) ?? brokenHop(evidence);
  if (verdict !== undefined || hop === undefined) return nothingWrong(verdict ?? 'healthy', hop);
  const findings = rules
    .filter((rule) => rule.hop === hop || (rule.lasting === true && isUpTo(rule.hop, hop)))
    .flatMap((rule) => findingOf(rule, evidence));
  const [first] = findings;
  if (first !== undefined) {
    const hedge = first.certainty === 'likely' ? 'Most likely: ' : '';
    return { verdict: 'found', hop, summary: `${hedge}${first.sentence} ${first.remedy}`, findings, missing: [] };
  }
  const missing = missingEvidence(evidence, hop);
  const summary = `Nothing that was seen says why: it broke at ${hopNames[hop]}. ${lastSign(evidence)}`;
  return { verdict: 'unknown', hop, summary, findings, missing };
}

/** Where our own step gave up, when that is a hop of its own: a BMC may fall silent in a boot that came far. */
function failedHop({ failure }: BootEvidence): Hop | undefined {
  const [room, what] = (failure?.code ?? '').split('.');
  if (room === 'bmc' || failure?.code === 'provider.circuit-open') return 'bmc';
  return room === 'ssh' && what !== 'unreachable' ? 'ssh' : undefined;
}

/** Undefined for a boot that has come to no good. */
function endOf(evidence: BootEvidence): 'healthy' | 'under-way' | 'ended' | undefined {
  const { state, failure, endedAt, endReason, at } = evidence;
  if (state === 'done' && failure === undefined) return 'healthy';
  if (failure?.code === 'cancelled') return 'ended';
  if (failure !== undefined || state === 'failed' || endReason === 'cut-off') return undefined;
  if (endedAt !== undefined) return 'ended';
  return at - lastSeen(evidence) < PATIENCE ? 'under-way' : undefined;
}

// The longest that a healthy machine is silent: in its firmware's self-test.
const PATIENCE: Millis = 3 * MINUTE;

function nothingWrong(verdict: 'healthy' | 'under-way' | 'ended', hop: Hop | undefined): Diagnosis {
  const where = hop === undefined ? '' : ` It stands at ${hopNames[hop]}.`;
  const summary = {
    healthy: 'This boot did what it was ordered to.',
    'under-way': `This boot is under way.${where}`,
    ended: `This boot was ended from outside, and nothing shows that it would have failed.${where}`,
  }[verdict];
  return { verdict, hop: verdict === 'healthy' ? null : (hop ?? null), summary, findings: [], missing: [] };
}

function findingOf({ cause, hop, look }: Rule, evidence: BootEvidence): Finding[] {
  const found = look(evidence);
  if (found === undefined) return [];
  const { certainty, sentence, stands } = found;
  const lines = stands.map((each) => (typeof each === 'string' ? each : lineOf(each)));
  return [{ cause, hop, ...causes[cause], certainty, sentence, evidence: lines }];
}

function missingEvidence(evidence: BootEvidence, hop: Hop): string[] {
  const { listened, log } = evidence;
  const needsConsole = !['bmc', 'ssh'].includes(hop) && listened !== 'heard';
  const unread = told(evidence, 'bmc', READ).length === 0 ? "the BMC's own event log, and " : '';
  const needsLog = hop === 'work' && stageFailure(evidence) !== undefined && log === '';
  return [
    ...(needsConsole ? [`what the machine printed: ${noConsole[listened]}`] : []),
    ...(hop === 'firmware' ? [`${unread}the screen: no packet has come since the reset`] : []),
    ...(needsLog ? ["the ramdisk's own log: it sent none"] : []),
  ];
}

const noConsole = {
  absent: 'its BMC has no serial-over-LAN',
  'given-up': 'its serial console was not to be had',
  none: 'nothing came from its serial console',
} as const;

function lastSign(evidence: BootEvidence): string {
  const failed = stageFailure(evidence);
  if (failed !== undefined) return `The ramdisk said of its stage ${failed.stage}: ${failed.reason}`;
  const last = evidence.seen.findLast(({ source }) => source !== 'alert' && source !== 'bmc');
  const command = told(evidence, 'bmc').at(-1);
  const said = last ?? command;
  const more = said === undefined ? 'Nothing was seen of it.' : `The last that was seen: ${lineOf(said)}.`;
  const error = evidence.failure === undefined ? '' : ` ${quoted(evidence.failure.message)}`;
  return `${more}${error}`;
}

function lastSeen({ openedAt, poweredAt, claimedAt, seen, console }: BootEvidence): Millis {
  const last = seen.findLast((entry) => entry.source !== 'bmc' || textOf(entry, 'error') === '');
  return Math.max(openedAt, poweredAt ?? 0, claimedAt ?? 0, last?.at ?? 0, console.at(-1)?.at ?? 0);
}
