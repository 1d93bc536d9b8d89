import type { TimelineEntry } from '../../../pxe/timeline.ts';
import type { BootEvidence } from './evidence.ts';
import { textOf, told } from './evidence.ts';
import type { Rule } from './rule.ts';
import { certain } from './rule.ts';

/** Between us and the BMC, up to a reset that it has taken. */
export const bmcRules: readonly Rule[] = [
  {
    cause: 'bmc-credentials',
    hop: 'bmc',
    look(evidence) {
      const refused = commands(evidence).filter(({ detail }) => detail['error'] === 'bmc.auth');
      if (refused.length === 0 && evidence.failure?.code !== 'bmc.auth') return undefined;
      return certain(`The BMC answers and refuses our user or password${at(evidence)}.`, ...refused);
    },
  },
  {
    cause: 'management-network',
    hop: 'bmc',
    look: ({ failure }) =>
      failure?.code === 'provider.circuit-open'
        ? certain('No BMC of this rack answers: ours is not called any more.', failure.message)
        : undefined,
  },
  {
    cause: 'bmc-silent',
    hop: 'bmc',
    look(evidence) {
      const { answered, unanswered } = reachability(evidence);
      if (answered.length > 0 || !isUnreachable(evidence, unanswered)) return undefined;
      return certain(`The BMC has not answered a single message${at(evidence)}.`, ...unanswered.slice(-3));
    },
  },
  {
    cause: 'bmc-hung',
    hop: 'bmc',
    look(evidence) {
      const { answered, unanswered } = reachability(evidence);
      const last = answered.at(-1);
      if (last === undefined || !isUnreachable(evidence, unanswered)) return undefined;
      const sentence = `The BMC answered ${plural(answered.length, 'command')} and then fell silent${at(evidence)}.`;
      return certain(sentence, last, ...unanswered.slice(-3));
    },
  },
  {
    cause: 'bmc-privilege',
    hop: 'bmc',
    look(evidence) {
      const denied = commands(evidence).filter(({ detail }) => detail['completionCode'] === INSUFFICIENT_PRIVILEGE);
      return denied.length === 0
        ? undefined
        : certain('The BMC lets our user in and not do what a boot needs.', ...denied.slice(-1));
    },
  },
  {
    cause: 'bmc-drops-boot-flag',
    hop: 'bmc',
    look(evidence) {
      const [set, read] = ['Set System Boot Options (pxe once)', 'Get System Boot Options'].map((name) =>
        told(evidence, 'bmc', name).findLast(isAnswered),
      );
      if (set === undefined || read === undefined || evidence.failure?.code !== 'bmc.lied') return undefined;
      const device = bootDevice(textOf(read, 'answer'));
      if (read.at < set.at || device === undefined || device === PXE) return undefined;
      return certain('The BMC takes “boot from the network once” and reads back another boot device.', set, read);
    },
  },
  {
    cause: 'power-stays-off',
    hop: 'bmc',
    look(evidence) {
      const on = commands(evidence).findLast(
        ({ name, detail }) => isSwitch.test(name) && detail['completionCode'] === 0,
      );
      if (on === undefined || evidence.failure?.code !== 'bmc.lied') return undefined;
      const readings = told(evidence, 'bmc', 'Get Chassis Status').filter(
        (entry) => entry.at >= on.at && isAnswered(entry),
      );
      if (readings.length === 0 || readings.some((entry) => isOn(textOf(entry, 'answer')))) return undefined;
      const sentence = `The BMC took the order to switch on, and in ${plural(readings.length, 'reading')} since the machine was off.`;
      return certain(sentence, on, ...readings.slice(-1));
    },
  },
  {
    cause: 'bmc-power-unsteady',
    hop: 'bmc',
    look: (evidence) =>
      evidence.failure?.code === 'bmc.power-unknown'
        ? certain(
            'The BMC tells another power state at every reading.',
            ...told(evidence, 'bmc', 'Get Chassis Status').slice(-3),
          )
        : undefined,
  },
];

const INSUFFICIENT_PRIVILEGE = 0xd4;
const PXE = 1;
const isSwitch = /^Chassis Control \((power up|hard reset)\)$/;

const commands = (evidence: BootEvidence) => told(evidence, 'bmc');
const isAnswered = ({ detail }: TimelineEntry) => typeof detail['completionCode'] === 'number';

function reachability(evidence: BootEvidence) {
  const all = [...evidence.bmcBefore, ...commands(evidence)];
  // An opened session is an answer, though it has no completion code of its own.
  const answered = all.filter((entry) => isAnswered(entry) || entry.detail['error'] === 'bmc.auth');
  return { answered, unanswered: all.filter(({ detail }) => detail['error'] === 'bmc.unreachable') };
}

/** Given up with a BMC that did not answer: one answer that was late is not that. */
function isUnreachable({ failure }: BootEvidence, unanswered: readonly TimelineEntry[]): boolean {
  return failure === undefined ? unanswered.length > 0 : failure.code === 'bmc.unreachable';
}

// IPMI 2.0 §28.13, parameter 5: bits 5 to 2 of the second byte of flags, behind version and parameter.
function bootDevice(answer: string): number | undefined {
  const flags = Buffer.from(answer, 'hex');
  return flags.length < 4 ? undefined : (flags.readUInt8(3) & 0x3c) >> 2;
}

// §28.2: bit 0 of the first byte.
function isOn(answer: string): boolean {
  return ((Buffer.from(answer, 'hex')[0] ?? 0) & 1) === 1;
}

function at({ failure }: BootEvidence): string {
  const bmc = failure?.details?.['bmc'];
  return typeof bmc === 'string' ? ` at ${bmc}` : '';
}

function plural(count: number, noun: string): string {
  return `${String(count)} ${noun}${count === 1 ? '' : 's'}`;
}
