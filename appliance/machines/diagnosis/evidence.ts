import type { BootState } from '../../../pxe/boot-states.ts';
import type { TimelineEntry, TimelineSource } from '../../../pxe/timeline.ts';
import type { Millis } from '../../kernel/clock.ts';
import { maskSecrets } from '../../kernel/secret-mask.ts';
import type { BootOrderRow } from '../../store/schema.ts';

/** Everything that one boot has left behind, as far as diagnosis looks at it. Plain data: what rules say follows from it alone. */
export interface BootEvidence {
  readonly machine: {
    readonly name: string;
    /** What inspection saw; null before the first one. */
    readonly uuid: string | null;
    /** The address that is reserved for the NIC it boots from. */
    readonly address: string | undefined;
  };
  readonly verb: BootOrderRow['verb'];
  readonly state: BootState;
  readonly openedAt: Millis;
  /** Tokens were accepted until then. */
  readonly windowUntil: Millis;
  readonly poweredAt: Millis | undefined;
  readonly claimedAt: Millis | undefined;
  readonly endedAt: Millis | undefined;
  /** What the session says of its end: for a stage that the ramdisk reported as failed `stage: code: reason`. */
  readonly endReason: string | undefined;
  /** When this was gathered. */
  readonly at: Millis;
  /** What our own step met, where it gave up. */
  readonly failure: Failure | undefined;
  /** The timeline without packets and console, oldest first; the newest where there are very many. */
  readonly seen: readonly TimelineEntry[];
  /** What its BMC was told shortly before this boot, which may be the second try of one. */
  readonly bmcBefore: readonly TimelineEntry[];
  /** What the serial console showed, in pieces, oldest first; the newest where there is very much. */
  readonly console: readonly Printed[];
  /** Whether somebody listened: `absent` when the BMC has no serial-over-LAN, `none` when nothing is known of it. */
  readonly listened: 'heard' | 'absent' | 'given-up' | 'none';
  /** The end of the log that the ramdisk sent. */
  readonly log: string;
}

export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

export interface Printed {
  readonly at: Millis;
  readonly text: string;
}

/** What is on the timeline by this source, under one of these names; all names unless told. */
export function told(
  { seen }: Pick<BootEvidence, 'seen'>,
  source: TimelineSource,
  ...names: readonly string[]
): readonly TimelineEntry[] {
  return seen.filter((entry) => entry.source === source && (names.length === 0 || names.includes(entry.name)));
}

/** A detail that is a text; the empty one when it is none. */
export function textOf({ detail }: TimelineEntry, name: string): string {
  const value = detail[name];
  return typeof value === 'string' ? value : '';
}

/** A detail that is a number; 0 when it is none. */
export function figureOf({ detail }: TimelineEntry, name: string): number {
  const value = detail[name];
  return typeof value === 'number' ? value : 0;
}

/** What was printed after a moment, and before another. A piece is stamped by its first character: it may hold a second of what came before. */
export function printed({ console }: BootEvidence, after: Millis = 0, before: Millis = Infinity): string {
  return console
    .filter(({ at }) => at >= after && at < before)
    .map(({ text }) => text)
    .join('');
}

/** The first line that a machine printed (or logged) which matches, as a line of evidence. */
export function matching(text: string, pattern: RegExp): string | undefined {
  const line = text.split('\n').find((each) => pattern.test(each.slice(0, LONGEST_LINE)));
  return line === undefined ? undefined : quoted(line);
}

/** A stranger's words: one short line, without secrets and control characters, and told from ours by its quotes. */
export function quoted(text: string): string {
  const plain = maskSecrets(text.slice(0, LONGEST_LINE))
    .replaceAll(/[\p{Cc}\p{Cf}\s]+/gu, ' ')
    .trim();
  return `“${plain.length > LONGEST_QUOTE ? `${plain.slice(0, LONGEST_QUOTE)}…` : plain}”`;
}

const LONGEST_LINE = 1_000;
const LONGEST_QUOTE = 160;

/** An entry as a line of evidence: `21:04:07.123 dhcp offer address=10.77.0.11 boot=undionly.kpxe`. */
export function lineOf({ at, source, name, detail }: TimelineEntry): string {
  const facts = Object.entries(detail)
    .filter(([key]) => worthTelling.has(key))
    .map(([key, value]) => ` ${key}=${typeof value === 'string' ? unquoted(value) : JSON.stringify(value)}`);
  return `${new Date(at).toISOString().slice(11, 23)} ${source} ${unquoted(name)}${facts.join('')}`;
}

const worthTelling: ReadonlySet<string> = new Set(
  [
    ...['address', 'kind', 'architecture', 'uuid', 'decision', 'why', 'boot', 'server', 'serverMac', 'relay', 'from'],
    ...['reason', 'status', 'alert', 'file', 'bytes', 'cut', 'error', 'completionCode', 'answer', 'code', 'port'],
    ...['part', 'event', 'record', 'sensor', 'fired', 'unfedMs'],
  ].flat(),
);

const unquoted = (text: string) => quoted(text).slice(1, -1);
