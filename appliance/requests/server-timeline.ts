import type { BootStages } from '../../pxe/boot-session.ts';
import { stagesWithTimeline } from '../../pxe/boot-session.ts';
import type { TimelineEntry } from '../../pxe/timeline.ts';
import { readTimeline } from '../../pxe/timeline-records.ts';
import type { Millis } from '../kernel/clock.ts';
import { sessionOf } from '../machines/boot-records.ts';
import type { BootSessionRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import type { ServerView } from './server-view.ts';

/** The stages of a deploy, in the order in which they follow each other. */
export const deployStages = [
  'admit',
  'power',
  'dhcp',
  'loader',
  'script',
  'ramdisk',
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
  const entries = await readTimeline(read, { sessionIds: sessions.map(({ id }) => id) });
  const sagaEntries = stepEntries(view);
  return {
    stages: await stagesOf(read, view, sessions.at(-1), entries),
    entries: [...entries, ...sagaEntries].sort((a, b) => a.at - b.at),
  };
}

function bootsOf(read: Reader, { attempts }: ServerView): Promise<BootSessionRow[]> {
  const ids = attempts.map(({ attempt }) => attempt.id);
  return read
    .selectFrom('boot_sessions')
    .innerJoin('boot_orders', 'boot_orders.id', 'boot_sessions.order_id')
    .selectAll('boot_sessions')
    .where('boot_orders.attempt_id', 'in', ids.length === 0 ? [''] : ids)
    .orderBy('boot_sessions.opened_at')
    .execute();
}

async function stagesOf(
  read: Reader,
  view: ServerView,
  boot: BootSessionRow | undefined,
  entries: readonly TimelineEntry[],
): Promise<DeployStage[]> {
  const stages: DeployStage[] = [];
  const add = (name: DeployStage['name'], startedAt: Millis, endedAt?: Millis, facts = {}) =>
    stages.push({ name, startedAt, endedAt, facts });

  add('admit', view.request.created_at, boot?.opened_at);
  if (boot === undefined) return stages;
  add('power', boot.opened_at, boot.powered_at ?? undefined);
  const booted: BootStages = stagesWithTimeline(sessionOf(boot), entries);
  for (const name of deployStages) {
    const times = name in booted ? booted[name as keyof BootStages] : undefined;
    // The session opens before the BMC is told; the firmware's time begins after.
    const startedAt = name === 'dhcp' ? (boot.powered_at ?? boot.opened_at) : times?.startedAt;
    if (times !== undefined && startedAt !== undefined) add(name, startedAt, times.endedAt, times.facts);
  }
  const phonedHome = booted['phone-home']?.endedAt;
  if (phonedHome !== undefined) add('ssh', phonedHome, await sshProvenAt(read, view, phonedHome));
  return stages;
}

// SSH often answers before the agent does: then it cost no time of its own.
async function sshProvenAt(read: Reader, { attempts }: ServerView, after: Millis): Promise<Millis | undefined> {
  const sagaId = attempts.at(-1)?.attempt.saga_id;
  const proof = await read
    .selectFrom('resources')
    .select('ref')
    .where('saga_id', '=', sagaId ?? '')
    .where('name', '=', 'ssh')
    .executeTakeFirst();
  if (proof?.ref == null) return undefined;
  return Math.max(after, (JSON.parse(proof.ref) as { at: Millis }).at);
}

function stepEntries({ attempts }: ServerView): TimelineEntry[] {
  return attempts.flatMap(({ attempt, steps }) =>
    steps.flatMap(({ name, started_at, ended_at, state, tries }) => {
      const detail = { attempt: attempt.number, step: name, state, tries };
      const started = { at: started_at, source: 'saga', name: `${name} started`, detail } as const;
      if (ended_at === null) return [started];
      return [started, { at: ended_at, source: 'saga', name: `${name} ${state}`, detail } as const];
    }),
  );
}
