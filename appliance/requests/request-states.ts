import type { RequestRow } from '../store/schema.ts';

export type RequestState = RequestRow['state'];

/** What people see of a server. */
export type ServerStatus = 'pending' | 'provisioning' | 'active' | 'suspended' | 'failed' | 'gone';

interface StateTraits {
  readonly status: ServerStatus;
  /** Where a request may go from here. */
  readonly next: readonly RequestState[];
}

/** The eleven states of a request and `deprovisioned`, as a table: the diagram in ARCHITECTURE.md is made from it. */
export const requestStates: Readonly<Record<RequestState, StateTraits>> = {
  queued: { status: 'pending', next: ['pending-approval', 'allocating', 'failed', 'rolling-back'] },
  'pending-approval': { status: 'pending', next: ['queued', 'failed', 'rolling-back'] },
  allocating: { status: 'provisioning', next: ['configuring', 'failed', 'rolling-back'] },
  configuring: { status: 'provisioning', next: ['activating', 'failed', 'rolling-back'] },
  activating: { status: 'provisioning', next: ['verifying', 'failed', 'rolling-back'] },
  verifying: { status: 'provisioning', next: ['completed', 'failed', 'rolling-back'] },
  completed: { status: 'active', next: ['suspended', 'rolling-back'] },
  suspended: { status: 'suspended', next: ['completed', 'rolling-back'] },
  failed: { status: 'failed', next: ['rolling-back'] },
  'rolling-back': { status: 'failed', next: ['rolled-back', 'deprovisioned'] },
  'rolled-back': { status: 'failed', next: [] },
  deprovisioned: { status: 'gone', next: [] },
};

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
