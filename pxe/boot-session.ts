import type { Millis } from '../appliance/kernel/clock.ts';
import type { Report, ReportStage } from './boot-plan.ts';
import { reportStages } from './boot-plan.ts';
import type { TimelineEntry } from './timeline.ts';

/** Where one boot of one machine stands, and when each of its stages began and ended. Plain JSON, so that a row holds it. */
export interface BootSession {
  readonly state: BootState;
  readonly openedAt: Millis;
  readonly stages: BootStages;
  /** Why it ended early. */
  readonly reason?: string;
}

export type BootState = LiveState | EndState;
export type LiveState =
  | 'opened'
  | 'addressed'
  | 'loader'
  | 'scripted'
  | 'loading'
  | 'warming'
  | 'parked'
  | 'ordered'
  | 'taken'
  | 'claimed'
  | 'inspecting'
  | 'checking'
  | 'wiping'
  | 'imaging'
  | 'growing'
  | 'injecting'
  | 'handed-off'
  | 'booted';
export type EndState = 'done' | 'cut-off' | 'revoked' | 'failed';

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

export type BootEvent =
  /** A DHCP ACK, to the NIC's firmware or to iPXE. */
  | { readonly type: 'firmware-address' }
  | { readonly type: 'ipxe-address' }
  /** The loader is fetched, by TFTP or HTTP. */
  | { readonly type: 'loader' }
  /** The script was served; `askedAt` when the request for it came, if that is known apart. */
  | { readonly type: 'script'; readonly askedAt?: Millis }
  | { readonly type: 'kernel' }
  | { readonly type: 'initrd' }
  | { readonly type: 'claim' }
  /** Of an order to wait. */
  | { readonly type: 'claim-to-wait' }
  /** Whoever waits has asked for the next order: there is nothing else that it does. */
  | { readonly type: 'poll' }
  /** The parked machine has been sent its order … */
  | { readonly type: 'taken' }
  /** … and has shown, by the bearer that came with it, that it arrived. */
  | { readonly type: 'bearer-used' }
  | ({ readonly type: 'report' } & Pick<Report, 'stage' | 'status' | 'facts'>)
  | { readonly type: 'inspection' }
  | { readonly type: 'checked' }
  | { readonly type: 'wiped' }
  /** Seconds since the new system's kernel started: now, and when the agent's unit was started. */
  | { readonly type: 'phone-home'; readonly uptime: number; readonly started: number }
  /** The appliance has seen that the server works. */
  | { readonly type: 'verified' }
  | { readonly type: EndEvent; readonly reason: string };

/** A second claimant, an order that was taken back, a stage that came too late. */
type EndEvent = 'cut-off' | 'revoked' | 'late';

export type AdvanceBoot = (
  session: BootSession,
  event: BootEvent,
  at: Millis,
) => { readonly session: BootSession; readonly unexpected: boolean };

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
export const advanceBoot: AdvanceBoot = (session, event, at) => {
  const name = eventName(event);
  const to = expected[session.state][name];
  if (to === undefined) return { session, unexpected: true };
  const stages = withStage(session, event, at);
  const reason = reasonOf(event);
  return { session: { ...session, state: to, stages, ...(reason === undefined ? {} : { reason }) }, unexpected: false };
};

export function hasEnded(state: BootState): state is EndState {
  return Object.keys(expected[state]).length === 0;
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

/** The states as a Mermaid diagram, made from the table that runs. */
export function bootSessionDiagram(): string {
  const arrows = new Map<string, string[]>();
  for (const [from, events] of Object.entries(expected)) {
    for (const [event, to] of Object.entries(events)) {
      // An event that changes nothing, and the three ends that any live state may come to, would hide the picture.
      if (from === to || isEndEvent(event) || event.endsWith('-failed')) continue;
      const arrow = `${quoted(from)} --> ${quoted(to)}`;
      arrows.set(arrow, [...(arrows.get(arrow) ?? []), event]);
    }
  }
  return [
    'stateDiagram-v2',
    '  [*] --> opened',
    ...[...arrows].map(([arrow, events]) => `  ${arrow}: ${events.join(', ')}`),
    '  done --> [*]',
    '  note right of done : from any live state also: cut-off, revoked, failed (late, or a stage reported failed)',
    '',
  ].join('\n');
}

type EventName = Exclude<BootEvent['type'], 'report'> | `${ReportStage}-${Report['status']}`;

type Expected = Readonly<Partial<Record<EventName, BootState>>>;

// What may end any live state …
const ends = { 'cut-off': 'cut-off', revoked: 'revoked', late: 'failed' } as const satisfies Expected;
// … and any state in which the ramdisk runs.
const failures = Object.fromEntries(reportStages.map((stage) => [`${stage}-failed`, 'failed'])) as Expected;

/** Reports of these stages change nothing but times. */
function onTheWay(state: LiveState, ...stages: readonly ReportStage[]): Expected {
  const names = stages.flatMap((stage) => [`${stage}-started`, `${stage}-progress`, `${stage}-done`]);
  return Object.fromEntries(names.map((name) => [name, state]));
}

/** The table. An event that leads to the state it comes in is expected there and changes nothing but times. */
const expected: Readonly<Record<BootState, Expected>> = {
  opened: {
    'firmware-address': 'addressed',
    'ipxe-address': 'addressed',
    loader: 'loader',
    script: 'scripted',
    ...ends,
  },
  addressed: {
    'firmware-address': 'addressed',
    'ipxe-address': 'addressed',
    loader: 'loader',
    script: 'scripted',
    ...ends,
  },
  loader: { loader: 'loader', 'ipxe-address': 'loader', 'firmware-address': 'addressed', script: 'scripted', ...ends },
  // iPXE that gives up goes back to the firmware, which may try the network again.
  scripted: {
    script: 'scripted',
    kernel: 'loading',
    initrd: 'loading',
    claim: 'claimed',
    'claim-to-wait': 'warming',
    'firmware-address': 'addressed',
    'ipxe-address': 'addressed',
    ...ends,
  },
  loading: {
    kernel: 'loading',
    initrd: 'loading',
    claim: 'claimed',
    'claim-to-wait': 'warming',
    script: 'scripted',
    'firmware-address': 'addressed',
    'ipxe-address': 'addressed',
    ...ends,
  },
  // What is looked at on the way decides nothing: a machine is parked once it asks for its next order.
  warming: {
    'claim-to-wait': 'warming',
    ...onTheWay('warming', 'network', 'claim', 'inspect', 'check'),
    inspection: 'warming',
    checked: 'warming',
    poll: 'parked',
    ...failures,
    ...ends,
  },
  parked: { poll: 'parked', ...ends },
  // The order of a parked machine. Until the bearer that comes with it is used, the answer may have been lost and is repeated.
  ordered: { taken: 'taken', ...ends },
  taken: { taken: 'taken', 'bearer-used': 'claimed', ...ends },
  claimed: {
    claim: 'claimed',
    ...onTheWay('claimed', 'network', 'claim', 'disk'),
    'image-started': 'imaging',
    'image-progress': 'imaging',
    'image-done': 'growing',
    'inspect-started': 'inspecting',
    'inspect-progress': 'inspecting',
    inspection: 'inspecting',
    'wipe-started': 'wiping',
    'wipe-progress': 'wiping',
    ...failures,
    ...ends,
  },
  inspecting: {
    'inspect-started': 'inspecting',
    'inspect-progress': 'inspecting',
    inspection: 'inspecting',
    'inspect-done': 'checking',
    ...failures,
    ...ends,
  },
  checking: {
    'inspect-done': 'checking',
    'check-started': 'checking',
    'check-progress': 'checking',
    checked: 'checking',
    'check-done': 'done',
    ...failures,
    ...ends,
  },
  wiping: {
    'wipe-started': 'wiping',
    'wipe-progress': 'wiping',
    wiped: 'wiping',
    'wipe-done': 'done',
    ...failures,
    ...ends,
  },
  imaging: {
    'image-started': 'imaging',
    'image-progress': 'imaging',
    'image-done': 'growing',
    ...failures,
    ...ends,
  },
  growing: {
    'image-done': 'growing',
    'grow-started': 'growing',
    'grow-progress': 'growing',
    'grow-done': 'injecting',
    ...failures,
    ...ends,
  },
  injecting: {
    'grow-done': 'injecting',
    'inject-started': 'injecting',
    'inject-progress': 'injecting',
    'inject-done': 'injecting',
    'kexec-started': 'handed-off',
    ...failures,
    ...ends,
  },
  // A kexec that returns is reported as failed.
  'handed-off': { 'kexec-started': 'handed-off', 'phone-home': 'booted', ...failures, ...ends },
  booted: { 'phone-home': 'booted', verified: 'done', ...ends },
  done: {},
  'cut-off': {},
  revoked: {},
  failed: {},
};

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

function eventName(event: BootEvent): EventName {
  return event.type === 'report' ? `${event.stage}-${event.status}` : event.type;
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

const isEndEvent = (name: string) => Object.hasOwn(ends, name);

// Mermaid takes a hyphen in a state's id for the beginning of an arrow.
const quoted = (state: string) => state.replaceAll('-', '_');
