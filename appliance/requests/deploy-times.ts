import { Consumer } from '../events/consumer.ts';
import type { ConsumerDeps } from '../events/consumer.ts';
import type { EventMap } from '../events/catalogue.ts';
import type { EventOf, EventRecord } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import { HOUR, SECOND } from '../kernel/clock.ts';
import { isFirmwareKnown } from '../machines/boot-times.ts';
import type { DeployStageRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import type { ServerTimeline } from './server-timeline.ts';
import { deployStages, serverTimeline } from './server-timeline.ts';
import { viewServer } from './server-view.ts';

/**
 * What is timed of a deploy, in the order in which people read it: its stages, and two spans over several of them.
 * `boot-command` is from the API call to the BMC's having taken the command to boot, `total` from the API call to SSH.
 */
export const timedSpans = [...deployStages, 'boot-command', 'total'] as const;

/** How long times are kept: percentiles are over so many days, and the table holds no more. */
export const TIMES_KEPT: Millis = 30 * 24 * HOUR;

/**
 * Writes down how long each stage of a completed deploy took, once and for good: a deploy that is told of again changes
 * nothing. Those that ended more than 30 days ago are forgotten.
 */
export function deployTimeRecorder(deps: ConsumerDeps): Consumer {
  const { store, clock } = deps;
  return new Consumer(deps, {
    name: 'deploy-times',
    types: ['provisioning.completed'],
    // Those of a batch are written together.
    batch: 500,
    deliver: async (events, signal) => {
      const keptSince = clock.now() - TIMES_KEPT;
      const completed = events.filter(isCompleted).filter(({ data }) => data.endedAt > keptSince);
      const last = completed.at(-1);
      if (last === undefined) return;
      await clock.sleepUntil(last.at + TIMELINE_DELAY, signal);
      const rows = await timesOf(
        store.read,
        completed.map(({ data }) => data),
      );
      await store.transaction(async (tx) => {
        await tx.deleteFrom('deploy_stages').where('ended_at', '<=', keptSince).execute();
        for (let from = 0; from < rows.length; from += ROWS_AT_ONCE) {
          await tx
            .insertInto('deploy_stages')
            .values(rows.slice(from, from + ROWS_AT_ONCE))
            .onConflict((conflict) => conflict.doNothing())
            .execute();
        }
      });
    },
  });
}

// SQLite takes 32,766 values a statement.
const ROWS_AT_ONCE = 1_000;

// The timeline gathers its entries for a quarter of a second before it writes them, and tries again after two.
const TIMELINE_DELAY: Millis = 5 * SECOND;

type Completed = EventMap['provisioning.completed'];

function isCompleted(event: EventRecord): event is EventOf<'provisioning.completed'> {
  return event.type === 'provisioning.completed';
}

async function timesOf(read: Reader, completed: readonly Completed[]): Promise<DeployStageRow[]> {
  const attemptIds = completed.map(({ attemptId }) => attemptId);
  const attempts = await read
    .selectFrom('attempts')
    .innerJoin('requests', 'requests.id', 'attempts.request_id')
    .leftJoin('machines', 'machines.id', 'attempts.machine_id')
    .select(['attempts.id as attempt_id', 'attempts.tenant_id', 'requests.region_id'])
    .select(['attempts.path', 'machines.model', 'machines.firmware'])
    .where('attempts.id', 'in', attemptIds)
    .execute();
  const booted = await read
    .selectFrom('boot_orders')
    .innerJoin('boot_sessions', 'boot_sessions.order_id', 'boot_orders.id')
    .select('boot_orders.attempt_id')
    .distinct()
    .where('boot_orders.attempt_id', 'in', attemptIds)
    .execute();
  const rows: DeployStageRow[] = [];
  for (const deploy of completed) {
    const { attemptId, endedAt } = deploy;
    const about = attempts.find(({ attempt_id }) => attempt_id === attemptId);
    if (about === undefined) continue;
    // What no machine was booted for has no stages.
    const isBooted = booted.some(({ attempt_id }) => attempt_id === attemptId);
    const timeline = isBooted ? await timelineOf(read, deploy) : { stages: [], entries: [] };
    for (const [stage, milliseconds] of spansOf(timeline, deploy)) {
      rows.push({ ...about, stage, milliseconds: Math.max(0, milliseconds), ended_at: endedAt });
    }
  }
  return rows;
}

async function timelineOf(read: Reader, { requestId, attemptId }: Completed): Promise<ServerTimeline> {
  const view = await viewServer(read, requestId);
  return serverTimeline(read, { ...view, attempts: view.attempts.filter(({ attempt }) => attempt.id === attemptId) });
}

function spansOf({ stages, entries }: ServerTimeline, { startedAt, endedAt }: Completed): Map<string, Millis> {
  const opened = stages.find(({ name }) => name === 'power')?.startedAt ?? startedAt;
  const begun = stages.find(({ name }) => name === 'admit')?.startedAt ?? startedAt;
  const firmwareIsKnown = isFirmwareKnown(entries, opened);
  const spans = new Map<string, Millis>();
  const ends = new Map<string, Millis>();
  for (const { name, startedAt: from, endedAt: to } of stages) {
    if (to === undefined) continue;
    ends.set(name, to);
    if (firmwareIsKnown || !toldByFirmware.has(name)) spans.set(name, to - from);
  }
  const poweredAt = ends.get('power');
  if (poweredAt !== undefined) spans.set('boot-command', poweredAt - begun);
  return spans.set('total', (ends.get('ssh') ?? endedAt) - startedAt);
}

const toldByFirmware: ReadonlySet<string> = new Set(['dhcp', 'loader', 'script', 'ramdisk']);
