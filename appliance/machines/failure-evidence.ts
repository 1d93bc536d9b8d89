import type { TimelineSource } from '../../pxe/timeline.ts';
import { HOUR, MINUTE } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Reason } from '../saga/step.ts';
import { reasonIn } from '../saga/step.ts';
import type { Reader } from '../store/store.ts';
import type { Counted, Evidence } from './blame.ts';
import type { HardwareFault } from './bmc/bmc.ts';
import { FAULT } from './event-log.ts';
import { STANDING } from './watchdog.ts';

/** An attempt that has just failed, on the machine that it held. */
export interface FailedAttempt {
  readonly attemptId: string;
  readonly machineId: string;
  readonly imageId: string;
  readonly reason: Reason;
  readonly at: Millis;
}

/** For so long what befalls several machines counts as befalling them together. */
const TOGETHER: Millis = 30 * MINUTE;
/** How far back a machine's own failures count. */
const REMEMBERED: Millis = 30 * 24 * HOUR;
// A log has up to 1 MB: what broke a boot stands at its end.
const LOG_END = 200_000;

/** What is in the tables about a failure, in the transaction that records it. */
export async function evidenceOf(read: Reader, failed: FailedAttempt): Promise<Evidence> {
  const { attemptId, machineId, imageId, reason, at } = failed;
  const machine = await read
    .selectFrom('machines')
    .select('rack_id')
    .where('id', '=', machineId)
    .executeTakeFirstOrThrow();
  const here = { machineId, imageId, rackId: machine.rack_id };
  const stage = stageOf(reason);
  const isAlike = (other: FailureRow) => {
    const their = reasonIn(other.failure);
    return their?.code === reason.code && stageOf(their) === stage;
  };
  const failures = await failuresSince(read, at - TOGETHER);
  const own = await ownFailures(read, machineId, at - REMEMBERED);
  return {
    code: reason.code,
    stage,
    faults: (await toldOf(read, attemptId, 'bmc', FAULT)) as HardwareFault[],
    stoodStill: (await toldOf(read, attemptId, 'bmc', STANDING)).some(saysStoodStill),
    lines: [reason.message, ...(await logOf(read, attemptId))],
    others: {
      failed: counted(failures.filter(isAlike), here),
      served: counted(await servedSince(read, at - TOGETHER), here),
    },
    repeated: own.filter((other) => other.blame === 'unknown' && isAlike(other)).length,
  };
}

function saysStoodStill(told: unknown): boolean {
  return (told as { stoodStill: boolean }).stoodStill;
}

/** That failed, or was late; else the step. */
function stageOf({ details, step }: Reason): string | undefined {
  const named = details?.['stage'];
  return typeof named === 'string' ? named : step;
}

interface Where {
  readonly machineId: string;
  readonly imageId: string;
  readonly rackId: string;
}

/** Machines, each once, and never the one that it is about. */
function counted(rows: readonly Where[], here: Where): Counted {
  const others = rows.filter(({ machineId }) => machineId !== here.machineId);
  const count = (some: readonly Where[]) => new Set(some.map(({ machineId }) => machineId)).size;
  return {
    all: count(others),
    image: count(others.filter(({ imageId }) => imageId === here.imageId)),
    rack: count(others.filter(({ rackId }) => rackId === here.rackId)),
  };
}

interface FailureRow extends Where {
  readonly failure: string | null;
  readonly blame: string | null;
}

function failuresSince(read: Reader, since: Millis): Promise<FailureRow[]> {
  return whereabouts(read)
    .select(['attempts.failure', 'attempts.blame'])
    .where('attempts.failed_at', '>=', since)
    .execute();
}

function servedSince(read: Reader, since: Millis): Promise<Where[]> {
  return whereabouts(read)
    .where('attempts.outcome', '=', 'succeeded')
    .where('requests.completed_at', '>=', since)
    .execute();
}

/** Those of one machine since it last served, or since a time. */
async function ownFailures(read: Reader, machineId: string, since: Millis): Promise<FailureRow[]> {
  const served = await read
    .selectFrom('attempts')
    .innerJoin('requests', 'requests.id', 'attempts.request_id')
    .select(({ fn }) => fn.max('requests.completed_at').as('at'))
    .where('attempts.machine_id', '=', machineId)
    .where('attempts.outcome', '=', 'succeeded')
    .executeTakeFirst();
  return whereabouts(read)
    .select(['attempts.failure', 'attempts.blame'])
    .where('attempts.machine_id', '=', machineId)
    .where('attempts.failed_at', '>', Math.max(since, served?.at ?? 0))
    .execute();
}

function whereabouts(read: Reader) {
  return read
    .selectFrom('attempts')
    .innerJoin('requests', 'requests.id', 'attempts.request_id')
    .innerJoin('machines', 'machines.id', 'attempts.machine_id')
    .select(['machines.id as machineId', 'machines.rack_id as rackId', 'requests.image_id as imageId']);
}

/** What the ramdisk sent. */
async function logOf(read: Reader, attemptId: string): Promise<string[]> {
  const logs = (await toldOf(read, attemptId, 'ramdisk', 'log')) as { text?: unknown }[];
  return logs.flatMap(({ text }) => (typeof text === 'string' ? text.slice(-LOG_END).split('\n') : []));
}

/** Details of what stands on the timeline of this attempt's boots. */
async function toldOf(read: Reader, attemptId: string, source: TimelineSource, name: string): Promise<unknown[]> {
  const entries = await read
    .selectFrom('timeline')
    .innerJoin('boot_sessions', 'boot_sessions.id', 'timeline.session_id')
    .innerJoin('boot_orders', 'boot_orders.id', 'boot_sessions.order_id')
    .select('timeline.detail')
    .where('boot_orders.attempt_id', '=', attemptId)
    .where('timeline.source', '=', source)
    .where('timeline.name', '=', name)
    .execute();
  return entries.map(({ detail }) => JSON.parse(detail) as unknown);
}
