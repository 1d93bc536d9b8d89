import type { EventLog } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Tx } from '../store/store.ts';
import { raiseIssue, resolveIssue } from './machine-issues.ts';
import type { FoundIssue, IssueName } from './machine-issues.ts';

export type Finding = Pick<FoundIssue, 'type' | 'message' | 'evidence'>;

/** What somebody who looked has found, and of which types they can say that there is nothing else. */
export interface Verdict {
  readonly findings: readonly Finding[];
  readonly lookedAt: readonly IssueName[];
}

/** Each finding becomes an issue; what was looked at and is in order resolves its own. */
export async function passVerdict(
  tx: Tx,
  { events, ids }: { readonly events: EventLog; readonly ids: Ids },
  { findings, lookedAt }: Verdict,
  { machineId, by, at }: { machineId: string; by: string; at: Millis },
): Promise<void> {
  for (const finding of findings) await raiseIssue(tx, events, ids, { machineId, ...finding, at });
  for (const type of lookedAt) {
    if (!findings.some((finding) => finding.type === type)) await resolveIssue(tx, events, { machineId, type, by, at });
  }
}
