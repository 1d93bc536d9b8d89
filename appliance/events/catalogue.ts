import type { Millis } from '../kernel/clock.ts';

/**
 * Everything that may happen and be told, by its stable name: JSON data of primitives and lists of them. A new event is
 * a new line here; a published one keeps its name and fields for ever, since consumers replay the log from its start.
 *
 * Which id an event is keyed by (what waits match on) stands at the end of its line.
 */
export interface EventMap {
  // What callers are told about their servers; key: requestId.
  'provisioning.started': { requestId: string; tenantId: string; attemptId: string; attempt: number };
  'provisioning.step-completed': OfAttempt & { step: string; startedAt: Millis; endedAt: Millis };
  /** `resource` is what kind of thing is held (machine, address …), `id` which one. */
  'resource.allocated': OfAttempt & { resource: string; id: string };
  'service.activated': { requestId: string; tenantId: string; hostname: string; addresses: readonly string[] };
  'provisioning.completed': OfAttempt & { startedAt: Millis; endedAt: Millis };
  'provisioning.failed': OfAttempt & { code: string; message: string };
  'service.suspended': { requestId: string; tenantId: string; reason: string };
  'service.reactivated': { requestId: string; tenantId: string };
  /** What a billing or order system needs to refund: what was held, from when to when. */
  'provisioning.rolled-back': {
    requestId: string;
    tenantId: string;
    reason: string;
    held: readonly string[];
    from: Millis;
    to: Millis;
  };
  'service.deprovisioned': { requestId: string; tenantId: string; reason: string; from: Millis; to: Millis };
  /** `from` is null for a request that has just been admitted. */
  'request.state-changed': { requestId: string; from: string | null; to: string };

  // What operators are told about machines; key: machineId.
  'machine.enrolled': { machineId: string; name: string };
  'machine.state-changed': { machineId: string; from: string | null; to: string; reason?: string };
  'boot.stage': OfBoot & { stage: string; status: string; facts: Readonly<Record<string, string>> };
  'boot.claimed': OfBoot;
  'boot.handoff': OfBoot;
  /** The ramdisk did what it was ordered to, an install excepted (that is a handoff), or failed. */
  'boot.finished': OfBoot & { outcome: 'done' | 'failed' };
  /** Somebody else claimed this boot too: both are cut off, and the boot starts over. */
  'boot.cut-off': OfBoot & { reason: string };

  // What installed servers say; key: attemptId.
  'agent.phoned-home': OfAgent & { hostKey: string; bootId: string; uptime: number };
  /** The first heartbeat of an agent; later ones are metrics, not events. */
  'agent.heartbeat-received': OfAgent;

  // What operators do; key: the id of what it is done to.
  'api-key.revoked': { keyId: string };
  /** An undo that was stuck goes on: the step that failed is run again, or left behind. */
  'saga.resumed': { sagaId: string; action: 'retry' | 'skip'; reason: string };

  // What an engineer must look at; key: the subject.
  'alert.raised': { subject: string; code: string; message: string };
  'saga.stuck': { sagaId: string; saga: string; subject: string; step: string; code: string; message: string };
}

export type EventType = keyof EventMap;

interface OfAttempt {
  requestId: string;
  tenantId: string;
  attemptId: string;
}

interface OfBoot {
  machineId: string;
  sessionId: string;
  /** Absent when the machine boots for nobody: an inspection, a wipe. */
  attemptId?: string;
  generation: number;
}

interface OfAgent {
  attemptId: string;
  requestId: string;
  machineId: string;
}
