import type { Millis } from '../appliance/kernel/clock.ts';
import type { BootEvent, BootState } from './boot-states.ts';
import { nextState } from './boot-states.ts';
import type { TimelineEntry } from './timeline.ts';

/** Where one boot of one machine stands (`boot-states.ts`), and when each of its stages began and ended. Plain JSON, so that a row holds it. */
export interface BootSession {
  readonly state: BootState;
  readonly openedAt: Millis;
  readonly stages: BootStages;
  /** Why it ended early. */
  readonly reason?: string;
}

/**
 * Each stage ends with the event that ends it and begins where the one before it ended: `dhcp` ends with the first ACK
 * to the firmware, `loader` when iPXE asks for its script (at once for an iPXE ROM), `script` when that is served,
 * `ramdisk` with the claim, `image`, `grow`, `inject`, `inspect`, `check` and `wipe` as reported, `kexec` with the last report
 * before it, `boot` when the agent's unit starts, `phone-home` when its message is here. Where a parked machine was given its
 * order, `order` is all that comes before `image`: until the ramdisk has it.
 */
export type BootStage =
  | 'dhcp'
  | 'loader'
  | 'script'
  | 'ramdisk'
  | 'order'
  | 'inspect'
  | 'check'
  | 'wipe'
  | 'image'
  | 'grow'
  | 'inject'
  | 'kexec'
  | 'boot'
  | 'phone-home';

export interface StageTimes {
  readonly startedAt: Millis;
  /** Absent while the stage goes on. */
  readonly endedAt?: Millis;
  /** What the ramdisk reported with its end. */
  readonly facts?: Readonly<Record<string, string>>;
}

export type BootStages = Readonly<Partial<Record<BootStage, StageTimes>>>;

export function openBootSession(at: Millis): BootSession {
  return { state: 'opened', openedAt: at, stages: { dhcp: { startedAt: at } } };
}

/** The boot of a machine that is parked in the ramdisk: nothing is booted, the order alone is on its way. */
export function openWarmSession(at: Millis): BootSession {
  return { state: 'ordered', openedAt: at, stages: { order: { startedAt: at } } };
}

/**
 * What an event makes of a session. It never throws: an event that the state doesn't expect (a late report, a packet
 * of a machine that was reset by hand) leaves the session as it is, and the caller records it.
 */
export function advanceBoot(
  session: BootSession,
  event: BootEvent,
  at: Millis,
): { readonly session: BootSession; readonly unexpected: boolean } {
  const to = nextState(session.state, event);
  if (to === undefined) return { session, unexpected: true };
  const stages = withStage(session, event, at);
  const reason = reasonOf(event);
  return { session: { ...session, state: to, stages, ...(reason === undefined ? {} : { reason }) }, unexpected: false };
}

/**
 * The stages of a session with those that firmware and iPXE went through, which only the timeline knows: an ACK to a
 * known machine writes no row. `entries` are those of the session, in order.
 */
export function stagesWithTimeline(session: BootSession, entries: readonly TimelineEntry[]): BootStages {
  if (session.stages.order !== undefined) return session.stages;
  let seen = openBootSession(session.openedAt);
  for (const entry of entries) {
    const event = bootEvent(entry);
    if (event !== undefined) seen = advanceBoot(seen, event, entry.at).session;
  }
  const { dhcp, loader, script } = seen.stages;
  const { ramdisk } = session.stages;
  const startedAt = script?.endedAt;
  return {
    ...session.stages,
    ...(dhcp?.endedAt === undefined ? {} : { dhcp }),
    ...(loader?.endedAt === undefined ? {} : { loader }),
    ...(script?.endedAt === undefined ? {} : { script }),
    ...(ramdisk === undefined || startedAt === undefined ? {} : { ramdisk: { ...ramdisk, startedAt } }),
  };
}

/** The stage before each, where it begins; the first begins when the session is opened. */
const before: Readonly<Record<BootStage, BootStage | undefined>> = {
  dhcp: undefined,
  loader: 'dhcp',
  script: 'loader',
  ramdisk: 'script',
  order: undefined,
  inspect: 'ramdisk',
  check: 'inspect',
  wipe: 'ramdisk',
  image: 'ramdisk',
  grow: 'image',
  inject: 'grow',
  kexec: 'inject',
  boot: 'kexec',
  'phone-home': 'boot',
};

const stageNames = Object.keys(before) as BootStage[];

function stageBefore({ stages }: BootSession, stage: BootStage): BootStage | undefined {
  return before[stage] === 'ramdisk' && stages.order !== undefined ? 'order' : before[stage];
}

function withStage(session: BootSession, event: BootEvent, at: Millis): BootStages {
  switch (event.type) {
    case 'firmware-address':
      return ended(session, 'dhcp', at);
    case 'ipxe-address':
      // Without an ACK to firmware before it, iPXE is the firmware: there was nothing to load.
      return session.stages.dhcp?.endedAt === undefined ? ended(session, 'loader', at) : session.stages;
    case 'script':
      return ended({ ...session, stages: ended(session, 'loader', event.askedAt ?? at) }, 'script', at);
    case 'claim':
    case 'claim-to-wait':
      return ended(session, 'ramdisk', at);
    case 'taken':
      return ended(session, 'order', at);
    case 'report':
      return withReport(session, event, at);
    case 'phone-home': {
      const handedOff = session.stages.kexec?.endedAt ?? session.openedAt;
      const agentStarted = at - Math.max(0, event.uptime - event.started) * 1000;
      return ended(
        { ...session, stages: ended(session, 'boot', Math.min(at, Math.max(handedOff, agentStarted))) },
        'phone-home',
        at,
      );
    }
    default:
      return session.stages;
  }
}

function withReport(session: BootSession, event: BootEvent & { type: 'report' }, at: Millis): BootStages {
  const stage = stageNames.find((name) => name === event.stage);
  if (stage === undefined) return session.stages;
  // The last thing sent before the kexec: it ends that stage, there is nobody to say `done`.
  if (event.status === 'done' || (stage === 'kexec' && event.status === 'started')) {
    return ended(session, stage, at, event.facts);
  }
  const { startedAt } = session.stages[stage] ?? { startedAt: endOf(session, stageBefore(session, stage)) ?? at };
  const facts = event.status === 'failed' ? { facts: event.facts, endedAt: at } : {};
  return { ...session.stages, [stage]: { ...session.stages[stage], startedAt, ...facts } };
}

/** `stage` ended at `at`, and those before it that nothing had ended; the first time counts. The next one begins. */
function ended(
  session: BootSession,
  stage: BootStage,
  at: Millis,
  facts?: Readonly<Record<string, string>>,
): BootStages {
  if (session.stages[stage]?.endedAt !== undefined) return session.stages;
  const previous = stageBefore(session, stage);
  const stages = previous === undefined ? session.stages : ended(session, previous, at);
  const startedAt = endOf({ ...session, stages }, previous) ?? session.openedAt;
  const [next, ...others] = stageNames.filter((name) => before[name] === stage);
  return {
    ...stages,
    [stage]: { startedAt, endedAt: Math.max(startedAt, at), ...(facts === undefined ? {} : { facts }) },
    // After the ramdisk it depends on the order, and the first report tells.
    ...(next === undefined || others.length > 0 ? {} : { [next]: { startedAt: Math.max(startedAt, at) } }),
  };
}

function endOf({ stages }: BootSession, stage: BootStage | undefined): Millis | undefined {
  return stage === undefined ? undefined : stages[stage]?.endedAt;
}

function reasonOf(event: BootEvent): string | undefined {
  if ('reason' in event) return event.reason;
  if (event.type !== 'report' || event.status !== 'failed') return undefined;
  return `${event.stage}: ${event.facts['code'] ?? 'boot.stage-failed'}: ${event.facts['reason'] ?? 'no reason given'}`;
}

/** What a timeline entry of firmware or iPXE means for the session. */
function bootEvent({ at, source, name, detail }: TimelineEntry): BootEvent | undefined {
  const { boot, proxy, ms } = detail;
  // Beside another DHCP server our offer is the last that we hear of it: the address comes from there.
  const isAnswer = name === 'ack' || (name === 'offer' && proxy === true);
  if (source === 'dhcp' && isAnswer && typeof boot === 'string') {
    return { type: boot === 'script' ? 'ipxe-address' : 'firmware-address' };
  }
  if (source === 'tftp' || (source === 'http' && name === 'loader')) return { type: 'loader' };
  if (source === 'http' && name === 'script') {
    return { type: 'script', askedAt: typeof ms === 'number' ? at - ms : at };
  }
  return undefined;
}
