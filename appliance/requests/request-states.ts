import type { RequestRow } from '../store/schema.ts';

export type RequestState = RequestRow['state'];

/** What people see of a server. */
export type ServerStatus = 'pending' | 'provisioning' | 'active' | 'suspended' | 'failed' | 'gone';

interface StateTraits {
  readonly status: ServerStatus;
  /** Whether something must happen within the deadline for progress: somebody works on it, and nobody is waited for. */
  readonly clocked: boolean;
  /** Where a request may go from here. */
  readonly next: readonly RequestState[];
}

/** The eleven states of a request and `deprovisioned`, as a table: the diagram in ARCHITECTURE.md is made from it. */
export const requestStates: Readonly<Record<RequestState, StateTraits>> = {
  queued: { status: 'pending', clocked: false, next: ['pending-approval', 'allocating', 'failed', 'rolling-back'] },
  'pending-approval': { status: 'pending', clocked: false, next: ['queued', 'failed', 'rolling-back'] },
  allocating: { status: 'provisioning', clocked: true, next: ['configuring', 'failed', 'rolling-back'] },
  configuring: { status: 'provisioning', clocked: true, next: ['activating', 'failed', 'rolling-back'] },
  activating: { status: 'provisioning', clocked: true, next: ['verifying', 'failed', 'rolling-back'] },
  verifying: { status: 'provisioning', clocked: true, next: ['completed', 'failed', 'rolling-back'] },
  completed: { status: 'active', clocked: false, next: ['suspended', 'rolling-back'] },
  suspended: { status: 'suspended', clocked: false, next: ['completed', 'rolling-back'] },
  failed: { status: 'failed', clocked: false, next: ['rolling-back'] },
  'rolling-back': { status: 'failed', clocked: true, next: ['rolled-back', 'deprovisioned'] },
  'rolled-back': { status: 'failed', clocked: false, next: [] },
  deprovisioned: { status: 'gone', clocked: false, next: [] },
};

export const clockedStates = (Object.keys(requestStates) as RequestState[]).filter(
  (state) => requestStates[state].clocked,
);

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
