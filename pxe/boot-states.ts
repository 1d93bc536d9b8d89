import type { Millis } from '../appliance/kernel/clock.ts';
import type { Report, ReportStage } from './boot-plan.ts';
import { reportStages } from './boot-plan.ts';

/** Where one boot of one machine stands. */
export type BootState = LiveState | EndState;
type LiveState =
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
type EndState = 'done' | 'cut-off' | 'revoked' | 'failed';

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

/** Where an event leads; undefined where the state does not expect it. */
export function nextState(state: BootState, event: BootEvent): BootState | undefined {
  return expected[state][eventName(event)];
}

/** The states as a Mermaid diagram, made from the table that runs. */
export function bootStateDiagram(): string {
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

function eventName(event: BootEvent): EventName {
  return event.type === 'report' ? `${event.stage}-${event.status}` : event.type;
}

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

const isEndEvent = (name: string) => Object.hasOwn(ends, name);

// Mermaid takes a hyphen in a state's id for the beginning of an arrow.
const quoted = (state: string) => state.replaceAll('-', '_');
