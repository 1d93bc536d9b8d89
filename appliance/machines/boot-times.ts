import { stagesWithTimeline } from '../../pxe/boot-session.ts';
import type { BootStages, StageTimes } from '../../pxe/boot-session.ts';
import type { TimelineEntry } from '../../pxe/timeline.ts';
import { readTimeline } from '../../pxe/timeline-records.ts';
import { Consumer } from '../events/consumer.ts';
import type { ConsumerDeps } from '../events/consumer.ts';
import type { EventRecord } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import { SECOND } from '../kernel/clock.ts';
import type { BootSessionRow, StageTimeRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import type { WatchedStage } from './boot-deadlines.ts';
import { STAGE_TIMES_KEPT, hardwareOf } from './boot-deadlines.ts';
import { lastBootOf, sessionOf } from './boot-records.ts';

/**
 * Writes down what each stage of a boot took that came to its end, be it for an install, an inspection or a wipe: what the next
 * boots on such hardware are measured by. Told again it changes nothing.
 */
export function bootTimeRecorder(deps: ConsumerDeps): Consumer {
  const { store, clock } = deps;
  return new Consumer(deps, {
    name: 'boot-times',
    types: ['boot.finished', 'agent.phoned-home', 'provisioning.completed'],
    deliver: async (events, signal) => {
      const keptSince = clock.now() - STAGE_TIMES_KEPT;
      const recent = events.filter(({ at }) => at > keptSince);
      const last = recent.at(-1);
      if (last === undefined) return;
      await clock.sleepUntil(last.at + TIMELINE_DELAY, signal);
      const rows: StageTimeRow[] = [];
      for (const event of recent) rows.push(...(await timesOf(store.read, event)));
      await store.transaction(async (tx) => {
        await tx.deleteFrom('stage_times').where('ended_at', '<=', keptSince).execute();
        await insertTimes(tx, rows);
      });
    },
  });
}

/** How long a stage took, or stood still until it was given up. The first word about a stage of a boot counts. */
export async function insertTimes(tx: Tx, rows: readonly StageTimeRow[]): Promise<void> {
  if (rows.length === 0) return;
  await tx
    .insertInto('stage_times')
    .values(rows)
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/** A daemon that was killed may have lost what it had seen of the firmware: a guess would pass for a measurement. */
export function isFirmwareKnown(entries: readonly TimelineEntry[], since: Millis): boolean {
  const saw = (source: string, name: string) =>
    entries.some((entry) => entry.source === source && entry.name === name && entry.at >= since);
  return saw('dhcp', 'ack') && saw('http', 'script');
}

// The timeline gathers its entries for a quarter of a second before it writes them, and tries again after two.
const TIMELINE_DELAY: Millis = 5 * SECOND;

const GIB = 1024 ** 3;

async function timesOf(read: Reader, event: EventRecord): Promise<StageTimeRow[]> {
  switch (event.type) {
    case 'boot.finished': {
      const { sessionId, outcome } = event.data as { sessionId: string; outcome: 'done' | 'failed' };
      if (outcome === 'failed') return [];
      const boot = await read.selectFrom('boot_sessions').selectAll().where('id', '=', sessionId).executeTakeFirst();
      return boot === undefined ? [] : rowsOf(read, boot, await ramdiskTimes(read, boot));
    }
    case 'agent.phoned-home': {
      const { attemptId } = event.data as { attemptId: string };
      const boot = await lastBootOf(read, attemptId);
      return boot === undefined ? [] : rowsOf(read, boot, [...(await ramdiskTimes(read, boot)), ...handoffTime(boot)]);
    }
    case 'provisioning.completed': {
      const { attemptId, endedAt } = event.data as { attemptId: string; endedAt: Millis };
      const boot = await lastBootOf(read, attemptId);
      const home = boot && sessionOf(boot).stages['phone-home']?.endedAt;
      if (boot === undefined || home === undefined) return [];
      return rowsOf(read, boot, [{ stage: 'ssh', milliseconds: endedAt - home, endedAt }]);
    }
    default:
      return [];
  }
}

interface Took {
  readonly stage: WatchedStage;
  readonly milliseconds: Millis;
  readonly endedAt: Millis;
}

async function ramdiskTimes(read: Reader, boot: BootSessionRow): Promise<Took[]> {
  const entries = await readTimeline(read, { sessionIds: [boot.id] });
  const stages = stagesWithTimeline(sessionOf(boot), entries);
  const powered = boot.powered_at ?? boot.opened_at;
  const firmware = isFirmwareKnown(entries, powered) ? firmwareTimes(stages, powered) : [];
  // Reported once, so that what a ramdisk tells late, after an outage of ours, is no measurement of the disk.
  const begun = entries.find(({ source, name }) => source === 'ramdisk' && name === 'image started')?.at;
  const claimed = stages.ramdisk?.endedAt;
  const disk =
    begun === undefined || claimed === undefined ? [] : [took('disk', { startedAt: claimed, endedAt: begun })];
  const image = begun === undefined ? [] : [took('image', { ...stages.image, startedAt: begun }, gibOf(stages.image))];
  const rest = (['grow', 'inject', 'kexec'] as const).map((stage) => took(stage, stages[stage]));
  return [...firmware, ...disk, ...image, ...rest].flatMap((each) => each ?? []);
}

function firmwareTimes({ dhcp, loader, script, ramdisk }: BootStages, powered: Millis) {
  const asked = script?.endedAt ?? loader?.endedAt;
  return [
    took('dhcp', dhcp && { ...dhcp, startedAt: powered }),
    took('loader', loader && { ...loader, ...(asked === undefined ? {} : { endedAt: asked }) }),
    took('ramdisk', ramdisk),
  ];
}

/** What the new system took to its phone-home, from the way on which it came. */
function handoffTime(boot: BootSessionRow): Took[] {
  const { kexec, 'phone-home': home } = sessionOf(boot).stages;
  if (kexec?.endedAt === undefined || home?.endedAt === undefined) return [];
  const { handoff, rescued_at: rescuedAt } = boot;
  const stage = handoff === 'reset' || rescuedAt !== null ? 'restart' : 'boot';
  const times = { startedAt: rescuedAt ?? kexec.endedAt, endedAt: home.endedAt };
  return [took(stage, times)].flatMap((each) => each ?? []);
}

/** An image below a GiB counts as one: it costs what beginning and end of a stream do. */
function gibOf(image: StageTimes | undefined): number {
  return Math.max(1, Number(image?.facts?.['bytes'] ?? 0) / GIB);
}

function took(stage: WatchedStage, times: Partial<StageTimes> | undefined, parts = 1): Took | undefined {
  if (times?.startedAt === undefined || times.endedAt === undefined) return undefined;
  const milliseconds = Math.max(0, Math.round((times.endedAt - times.startedAt) / parts));
  return { stage, milliseconds, endedAt: times.endedAt };
}

async function rowsOf(read: Reader, boot: BootSessionRow, times: readonly Took[]): Promise<StageTimeRow[]> {
  const { model, firmware } = await hardwareOf(read, boot.machine_id);
  return times.map(({ stage, milliseconds, endedAt }) => ({
    session_id: boot.id,
    stage,
    machine_id: boot.machine_id,
    model,
    firmware,
    milliseconds: Math.max(0, milliseconds),
    outcome: 'done',
    ended_at: endedAt,
  }));
}
