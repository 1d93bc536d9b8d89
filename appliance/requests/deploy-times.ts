import { Consumer } from '../events/consumer.ts';
import type { ConsumerDeps } from '../events/consumer.ts';
import type { EventMap } from '../events/catalogue.ts';
import type { Millis } from '../kernel/clock.ts';
import { HOUR, SECOND } from '../kernel/clock.ts';
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
    deliver: async (events, signal) => {
      for (const { type, at, data } of events) {
        const keptSince = clock.now() - TIMES_KEPT;
        if (type !== 'provisioning.completed' || data.endedAt <= keptSince) continue;
        await clock.sleepUntil(at + TIMELINE_DELAY, signal);
        const rows = await timesOf(store.read, data);
        await store.transaction(async (tx) => {
          await tx.deleteFrom('deploy_stages').where('ended_at', '<=', keptSince).execute();
          await tx
            .insertInto('deploy_stages')
            .values(rows)
            .onConflict((conflict) => conflict.doNothing())
            .execute();
        });
      }
    },
  });
}

// The timeline gathers its entries for a quarter of a second before it writes them, and tries again after two.
const TIMELINE_DELAY: Millis = 5 * SECOND;

type Completed = EventMap['provisioning.completed'];

async function timesOf(read: Reader, completed: Completed): Promise<DeployStageRow[]> {
  const { requestId, attemptId, tenantId, endedAt } = completed;
  const view = await viewServer(read, requestId);
  const attempts = view.attempts.filter(({ attempt }) => attempt.id === attemptId);
  const timeline = await serverTimeline(read, { ...view, attempts });
  const machine = await read
    .selectFrom('attempts')
    .leftJoin('machines', 'machines.id', 'attempts.machine_id')
    .select(['attempts.path', 'machines.model', 'machines.firmware'])
    .where('attempts.id', '=', attemptId)
    .executeTakeFirstOrThrow();
  const about = { attempt_id: attemptId, tenant_id: tenantId, region_id: view.request.region_id, ...machine };
  return [...spansOf(timeline, completed)].map(([stage, milliseconds]) => {
    return { ...about, stage, milliseconds: Math.max(0, milliseconds), ended_at: endedAt };
  });
}

function spansOf({ stages, entries }: ServerTimeline, { startedAt, endedAt }: Completed): Map<string, Millis> {
  const opened = stages.find(({ name }) => name === 'power')?.startedAt ?? startedAt;
  const saw = (source: string, name: string) =>
    entries.some((entry) => entry.source === source && entry.name === name && entry.at >= opened);
  // A daemon that was killed may have lost what it had seen of the firmware: then nobody knows where one of these
  // stages ended and the next began, and a guess would pass for a measurement.
  const isFirmwareKnown = saw('dhcp', 'ack') && saw('http', 'script');
  const spans = new Map<string, Millis>();
  const ends = new Map<string, Millis>();
  for (const { name, startedAt: from, endedAt: to } of stages) {
    if (to === undefined) continue;
    ends.set(name, to);
    if (isFirmwareKnown || !toldByFirmware.has(name)) spans.set(name, to - from);
  }
  const poweredAt = ends.get('power');
  if (poweredAt !== undefined) spans.set('boot-command', poweredAt - startedAt);
  return spans.set('total', (ends.get('ssh') ?? endedAt) - startedAt);
}

const toldByFirmware: ReadonlySet<string> = new Set(['dhcp', 'loader', 'script', 'ramdisk']);
