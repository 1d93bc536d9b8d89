import type { RequestRow } from '../store/schema.ts';

export type RequestState = RequestRow['state'];

/** What people see of a server. */
export type ServerStatus = 'pending' | 'provisioning' | 'active' | 'suspended' | 'failed' | 'gone';

/** What a request means to those that wait for it: they wait on, need not, or wait in vain. */
export type AsPrerequisite = 'awaited' | 'met' | 'lost';

interface StateTraits {
  readonly status: ServerStatus;
  /** Whether it takes one of its tenant's places among the requests that are worked on. */
  readonly inFlight: boolean;
  /** Whether something must happen within the deadline for progress: somebody works on it, and nobody is waited for. */
  readonly clocked: boolean;
  /** Whether it counts towards quotas; a request ends by moving to where it doesn't. */
  readonly holdsQuota: boolean;
  readonly asPrerequisite: AsPrerequisite;
  /** Where a request may go from here. */
  readonly next: readonly RequestState[];
}

const waits = {
  status: 'pending',
  inFlight: false,
  clocked: false,
  holdsQuota: true,
  asPrerequisite: 'awaited',
} as const;
const isWorkedOn = { ...waits, status: 'provisioning', inFlight: true, clocked: true } as const;
const works = { ...waits, status: 'active', asPrerequisite: 'met' } as const;
const isLost = { ...waits, status: 'failed', asPrerequisite: 'lost' } as const;
const hasEnded = { ...isLost, holdsQuota: false } as const;

/**
 * The eleven states of a request and `deprovisioned`, as a table: whoever counts requests asks it, and the diagram in
 * ARCHITECTURE.md is made from it. The next attempt begins where the first began: `allocating`. A request is rolled back without a place in flight: what gives back never waits.
 */
export const requestStates: Readonly<Record<RequestState, StateTraits>> = {
  queued: { ...waits, next: ['pending-approval', 'allocating', 'failed', 'rolling-back'] },
  'pending-approval': { ...waits, next: ['queued', 'failed', 'rolling-back'] },
  allocating: { ...isWorkedOn, next: ['configuring', 'failed', 'rolling-back'] },
  configuring: { ...isWorkedOn, next: ['activating', 'allocating', 'failed', 'rolling-back'] },
  activating: { ...isWorkedOn, next: ['verifying', 'allocating', 'failed', 'rolling-back'] },
  verifying: { ...isWorkedOn, next: ['completed', 'allocating', 'failed', 'rolling-back'] },
  completed: { ...works, next: ['suspended', 'rolling-back'] },
  suspended: { ...works, status: 'suspended', next: ['completed', 'rolling-back'] },
  failed: { ...isLost, next: ['rolling-back'] },
  'rolling-back': { ...isLost, clocked: true, next: ['rolled-back', 'deprovisioned'] },
  'rolled-back': { ...hasEnded, next: [] },
  deprovisioned: { ...hasEnded, status: 'gone', next: [] },
};

export function statesThat(have: (traits: StateTraits) => boolean): readonly RequestState[] {
  return (Object.keys(requestStates) as RequestState[]).filter((state) => have(requestStates[state]));
}

export const clockedStates = statesThat(({ clocked }) => clocked);
export const inFlightStates = statesThat(({ inFlight }) => inFlight);

export function mayMove(from: RequestState, to: RequestState): boolean {
  return requestStates[from].next.includes(to);
}

export function requestStateDiagram(): string {
  const arrows = Object.entries(requestStates).flatMap(([from, { next }]) =>
    next.map((to) => `  ${mermaidName(from)} --> ${mermaidName(to)}`),
  );
  return ['stateDiagram-v2', '  [*] --> queued', ...arrows].join('\n');
}

// Mermaid reads a hyphen in a state's name as part of an arrow.
function mermaidName(state: string): string {
  return state.replaceAll('-', '_');
}
