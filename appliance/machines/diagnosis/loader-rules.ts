import type { TimelineEntry } from '../../../pxe/timeline.ts';
import type { BootEvidence } from './evidence.ts';
import { figureOf, matching, printed, textOf, told } from './evidence.ts';
import { answers } from './hops.ts';
import type { Rule } from './rule.ts';
import { certain, likely } from './rule.ts';

/** From the loader's name to a ramdisk that is in memory. */
export const loaderRules: readonly Rule[] = [
  {
    cause: 'tftp-refused',
    hop: 'loader',
    look(evidence) {
      const refused = told(evidence, 'tftp', 'refused').at(-1);
      if (refused === undefined || told(evidence, 'tftp', 'done').length > 0) return undefined;
      return certain(`We refused the loader by TFTP: ${textOf(refused, 'reason')}.`, refused);
    },
  },
  {
    cause: 'tftp-cut',
    hop: 'loader',
    look(evidence) {
      const begun = told(evidence, 'tftp', 'started').at(-1);
      if (begun === undefined || told(evidence, 'tftp', 'done').length > 0) return undefined;
      const lost = told(evidence, 'tftp', 'lost', 'stopped').at(-1);
      // A transfer waits longer for its client than some boots are waited for.
      if (lost === undefined) return certain('The loader was on its way by TFTP, and has not arrived.', begun);
      const [bytes, why] = [figureOf(lost, 'bytes'), textOf(lost, 'reason')];
      const sentence = `The loader was on its way by TFTP, and after ${String(bytes)} bytes the machine fell silent${why === '' ? '' : ` (${why})`}.`;
      return certain(sentence, begun, lost);
    },
  },
  {
    cause: 'tftp-blocked',
    hop: 'loader',
    look(evidence) {
      const [answer] = answers(evidence);
      const asked = told(evidence, 'tftp').length > 0 || told(evidence, 'http', 'loader').length > 0;
      if (answer === undefined || asked || textOf(answer, 'boot') === 'script') return undefined;
      const sentence = `The machine was told to fetch ${textOf(answer, 'boot')} by TFTP, and its request never came.`;
      const line = matching(printed(evidence, evidence.poweredAt), TFTP_TIMEOUT);
      return line === undefined ? likely(sentence, answer) : certain(sentence, answer, line);
    },
  },
  {
    cause: 'boot-window-closed',
    hop: 'loader',
    lasting: true,
    look: (evidence) => windowClosed(evidence),
  },
  {
    cause: 'loader-hangs',
    hop: 'loader',
    look(evidence) {
      const done = told(evidence, 'tftp', 'done').at(-1) ?? told(evidence, 'http', 'loader').findLast(isWhole);
      return done && likely('The loader is all there, and has not spoken: it does not start, or finds no NIC.', done);
    },
  },
  {
    cause: 'script-refused',
    hop: 'script',
    look(evidence) {
      const refused = told(evidence, 'http', 'script-refused').at(-1);
      return refused && certain('iPXE asked for its script with a token that is not of this boot.', refused);
    },
  },
  {
    cause: 'http-blocked',
    hop: 'script',
    look(evidence) {
      const answer = answers(evidence).findLast(({ detail }) => detail['boot'] === 'script');
      if (answer === undefined || told(evidence, 'http').length > 0) return undefined;
      return likely('iPXE has its address and the URL of its script, and no HTTP request came.', answer);
    },
  },
  {
    cause: 'ramdisk-cut',
    hop: 'ramdisk',
    look(evidence) {
      const cut = told(evidence, 'http', 'kernel', 'initrd').filter((entry) => !isWhole(entry));
      const last = cut.at(-1);
      if (last === undefined) return undefined;
      const sentence = `The ${last.name} broke off ${String(cut.length)} times on its way, the last time after ${String(figureOf(last, 'bytes'))} bytes.`;
      return certain(sentence, ...cut.slice(-2));
    },
  },
  {
    cause: 'ramdisk-not-fetched',
    hop: 'ramdisk',
    look(evidence) {
      const script = told(evidence, 'http', 'script').at(-1);
      if (script === undefined || told(evidence, 'http', 'kernel', 'initrd').length > 0) return undefined;
      return likely('iPXE has its script, and asked for neither kernel nor ramdisk.', script);
    },
  },
];

const TFTP_TIMEOUT = /PXE-E32|PXE-E35|PXE-E11|TFTP (open|read) time-?out|tftp.{0,60}(timed out|connection timed out)/i;

const isWhole = ({ detail }: TimelineEntry) => detail['cut'] !== true;

/** What came with a token after the window in which tokens are accepted, or was sent to its disk for that reason. */
function windowClosed(evidence: BootEvidence) {
  const { openedAt, windowUntil } = evidence;
  const late = [
    ...told(evidence, 'http', 'script-refused', 'claim-refused').filter(({ detail }) => detail['status'] === 403),
    ...told(evidence, 'dhcp', 'ack', 'offer').filter(({ detail }) => detail['decision'] === 'local-disk'),
  ].find(({ at }) => at >= windowUntil);
  if (late === undefined) return undefined;
  const seconds = (millis: number) => `${(millis / 1_000).toFixed(0)} s`;
  const sentence = `The machine came ${seconds(late.at - openedAt)} after it was told to start; its tokens were good for ${seconds(windowUntil - openedAt)}.`;
  return certain(sentence, late);
}
