import type { PlacementReasons } from '../../scheduler/placement.ts';
import type { BootStages } from '../../pxe/boot-session.ts';
import { stagesWithTimeline } from '../../pxe/boot-session.ts';
import type { TimelineEntry } from '../../pxe/timeline.ts';
import type { TimelineRecord } from '../../pxe/timeline-records.ts';
import { readTimeline } from '../../pxe/timeline-records.ts';
import type { EventMap, EventType } from '../events/catalogue.ts';
import type { Millis } from '../kernel/clock.ts';
import { sessionOf } from '../machines/boot-records.ts';
import type { Reason } from '../saga/step.ts';
import type { AttemptRow, BootSessionRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import type { ServerView } from './server-view.ts';
import { attemptInFront } from './server-view.ts';

/** The stages of a deploy, in the order in which they follow each other. */
export const deployStages = [
  'admit',
  'power',
  'dhcp',
  'loader',
  'script',
  'ramdisk',
  'order',
  'image',
  'grow',
  'inject',
  'kexec',
  'boot',
  'phone-home',
  'ssh',
] as const;

export interface DeployStage {
  readonly name: (typeof deployStages)[number];
  readonly startedAt: Millis;
  /** Undefined while it goes on. */
  readonly endedAt: Millis | undefined;
  readonly facts: Readonly<Record<string, string>>;
}

/** Everything known of a server's way, on one clock: its stages, and every packet, BMC command, report and log behind them. */
export interface ServerTimeline {
  readonly stages: readonly DeployStage[];
  readonly entries: readonly TimelineEntry[];
}

export async function serverTimeline(read: Reader, view: ServerView): Promise<ServerTimeline> {
  const sessions = await bootsOf(read, view);
  const inFront = attemptInFront(view)?.attempt.id;
  const isInFront = ({ attempt_id }: { attempt_id: string | null }) => attempt_id === inFront;
  const entries = await readTimeline(read, { sessionIds: sessions.map(({ id }) => id) });
  const steps = [...(await eventEntries(read, view)), ...stepEntries(view)];
  return {
    stages: await stagesOf(read, view, sessions.findLast(isInFront), entries),
    // At the same moment what was ordered comes before what came of it.
    entries: [...steps, ...bootEntries(sessions, view), ...entries].sort((a, b) => a.at - b.at),
  };
}

function bootsOf(read: Reader, { attempts }: ServerView): Promise<(BootSessionRow & { attempt_id: string | null })[]> {
  const ids = attempts.map(({ attempt }) => attempt.id);
  return read
    .selectFrom('boot_sessions')
    .innerJoin('boot_orders', 'boot_orders.id', 'boot_sessions.order_id')
    .selectAll('boot_sessions')
    .select('boot_orders.attempt_id')
    .where('boot_orders.attempt_id', 'in', ids.length === 0 ? [''] : ids)
    .orderBy('boot_sessions.opened_at')
    .execute();
}

async function stagesOf(
  read: Reader,
  view: ServerView,
  boot: BootSessionRow | undefined,
  entries: readonly TimelineRecord[],
): Promise<DeployStage[]> {
  const stages: DeployStage[] = [];
  const add = (name: DeployStage['name'], startedAt: Millis, endedAt?: Millis, facts = {}) =>
    stages.push({ name, startedAt, endedAt, facts });

  // The stages are those of one attempt: what came before it, or is tried beside it, has its own.
  const attempt = attemptInFront(view)?.attempt;
  const begun = attempt === undefined || attempt.number === 1 ? view.request.created_at : attempt.created_at;
  add('admit', begun, boot?.opened_at);
  if (boot === undefined) return stages;
  // Nothing goes on in a boot that is over, though nobody was left to say that its stage had ended.
  const over = boot.ended_at ?? undefined;
  // A machine that waited had its power.
  if (boot.continues === null) add('power', boot.opened_at, boot.powered_at ?? over);
  const seen = entries.filter(({ sessionId }) => sessionId === boot.id);
  const booted: BootStages = stagesWithTimeline(sessionOf(boot), seen);
  for (const name of deployStages) {
    const times = name in booted ? booted[name as keyof BootStages] : undefined;
    // The session opens before the BMC is told; the firmware's time begins after.
    const startedAt = name === 'dhcp' ? (boot.powered_at ?? boot.opened_at) : times?.startedAt;
    if (times !== undefined && startedAt !== undefined) add(name, startedAt, times.endedAt ?? over, times.facts);
  }
  const phonedHome = booted['phone-home']?.endedAt;
  if (phonedHome !== undefined) add('ssh', phonedHome, (await sshProvenAt(read, view, phonedHome)) ?? over);
  return stages;
}

// SSH often answers before the agent does: then it cost no time of its own.
async function sshProvenAt(read: Reader, view: ServerView, after: Millis): Promise<Millis | undefined> {
  const sagaId = attemptInFront(view)?.attempt.saga_id;
  const proof = await read
    .selectFrom('resources')
    .select('ref')
    .where('saga_id', '=', sagaId ?? '')
    .where('name', '=', 'ssh')
    .executeTakeFirst();
  if (proof?.ref == null) return undefined;
  return Math.max(after, (JSON.parse(proof.ref) as { at: Millis }).at);
}

/** When each boot was ordered and how it ended, which no packet tells. */
function bootEntries(boots: readonly BootSessionRow[], { attempts }: ServerView): TimelineEntry[] {
  const names = new Map(attempts.map(({ machine }) => [machine?.id, machine?.name]));
  return boots.flatMap(({ machine_id, generation, state, opened_at, ended_at, end_reason: reason }) => {
    const boot = { machine: names.get(machine_id), generation };
    const opened = sagaEntry(opened_at, 'boot opened', boot);
    return ended_at === null ? [opened] : [opened, sagaEntry(ended_at, 'boot ended', { ...boot, state, reason })];
  });
}

const told = [
  'provisioning.step-completed',
  'provisioning.attempt-moved',
  'provisioning.hedged',
  'provisioning.outrun',
  'provisioning.failed',
  'provisioning.completed',
  'provisioning.rolled-back',
  'service.deprovisioned',
] as const satisfies EventType[];

/** Whoever asked for a server knows of one machine. */
const operatorsOwn: readonly EventType[] = ['provisioning.hedged', 'provisioning.outrun'];

type Told = Pick<EventMap, (typeof told)[number]>;

/** What the steps came to, from the log of events: a step's row is written anew by its undo. */
async function eventEntries(read: Reader, { request, attempts, forTenant }: ServerView): Promise<TimelineEntry[]> {
  const rows = await read
    .selectFrom('events')
    .select(['type', 'at', 'data'])
    .where('key', '=', request.id)
    .where('type', 'in', told)
    .$if(forTenant, (query) => query.where('type', 'not in', operatorsOwn))
    .orderBy('id')
    .execute();
  const numbers = new Map(attempts.map(({ attempt }) => [attempt.id, attempt.number]));
  const names = new Map(attempts.map(({ machine }) => [machine?.id, machine?.name]));
  const placements = new Map(attempts.map(({ attempt }) => [attempt.id, placementOf(attempt)]));
  return rows.flatMap(({ type, at, data }) => {
    const facts = JSON.parse(data) as { [T in keyof Told]: Told[T] & { attemptId?: string } }[keyof Told];
    const attempt = numbers.get(facts.attemptId ?? '');
    // Of an attempt that is not in the view nothing is told.
    if (facts.attemptId !== undefined && attempt === undefined) return [];
    if ('step' in facts) {
      const { step, startedAt, endedAt } = facts;
      const chosen = step === 'allocate' ? placements.get(facts.attemptId) : undefined;
      const detail = chosen === undefined ? { attempt } : { attempt, placement: chosen };
      return [sagaEntry(startedAt, `${step} started`, { attempt }), sagaEntry(endedAt, `${step} done`, detail)];
    }
    if ('blame' in facts) {
      const { attempt: next, machineId, blame, code, message } = facts;
      return [sagaEntry(at, 'attempt moved', { attempt: next, from: names.get(machineId), blame, code, message })];
    }
    const [, name = type] = type.split('.');
    if ('code' in facts) return [sagaEntry(at, name, { attempt, code: facts.code, message: facts.message })];
    return [sagaEntry(at, name, 'reason' in facts ? { reason: facts.reason } : { attempt })];
  });
}

/** Why its machine was chosen; absent in what was placed before that was kept, and where no machine is. */
function placementOf({ placement }: AttemptRow): string | undefined {
  if (placement === null) return undefined;
  const { score, others, leftOut } = JSON.parse(placement) as PlacementReasons;
  const listed = (named: object) => Object.entries(named).map(([name, figure]) => `${name} ${rounded(Number(figure))}`);
  const against = listed(score.terms).join(', ');
  const next = others.map((other) => `${other.machineId} has ${rounded(other.score.total)}`).join(', ');
  return [
    `${rounded(score.total)}${against === '' ? '' : ` (${against})`}`,
    ...(next === '' ? [] : [`the next best ${next}`]),
    ...(Object.keys(leftOut).length === 0 ? [] : [`left out: ${listed(leftOut).join(', ')}`]),
  ].join('; ');
}

function rounded(figure: number): string {
  return String(Math.round(figure * 100) / 100);
}

/** The step that goes on, or those that were undone, newest first. */
function stepEntries({ attempts }: ServerView): TimelineEntry[] {
  return attempts.flatMap(({ attempt, steps }) =>
    steps.toReversed().flatMap(({ name, state, tries, error, started_at, ended_at }) => {
      if (state === 'done') return [];
      const reason = error === null ? {} : { error: JSON.parse(error) as Reason };
      const detail = { attempt: attempt.number, state, tries, ...reason };
      const isForward = state === 'started' || state === 'waiting' || state === 'failed';
      const started = sagaEntry(started_at, `${name} ${isForward ? 'started' : 'undo started'}`, detail);
      // Until its undo has ended, the row tells when the step had.
      if (ended_at === null || ended_at < started_at) return [started];
      return [started, sagaEntry(ended_at, `${name} ${state}`, detail)];
    }),
  );
}

function sagaEntry(at: Millis, name: string, detail: TimelineEntry['detail']): TimelineEntry {
  return { at, source: 'saga', name, detail };
}
