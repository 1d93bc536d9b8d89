import { nearestRank } from '../../scheduler/nearest-rank.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { SECOND } from '../kernel/clock.ts';
import type { Log } from '../kernel/log.ts';
import { periodically } from '../kernel/periodically.ts';
import type { Service } from '../kernel/service.ts';
import type { ServerSpec } from '../providers/provider.ts';
import type { AttemptRow } from '../store/schema.ts';
import type { Reader, Store, Tx } from '../store/store.ts';
import type { MoveOnDeps } from './attempts.ts';
import { isAnotherFree, machinesOf, startAttempt } from './attempts.ts';
import { attemptsOf, lockRequest } from './request-records.ts';
import { inFlightStates } from './request-states.ts';

export interface HedgingDeps extends MoveOnDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Tries a request on a second machine beside its first when that takes longer than 95 in 100 deploys of its model and path did,
 * at most once a request; whichever is ready first has the server (`providers/bare-metal/race.ts`), and the other one is given
 * back by the release road. A hedge for which there was no machine after all is begun again, twice at most. An order with user data
 * is left alone: that would run on both.
 *
 * With hedges switched off it still gives back what was outrun before.
 */
export class Hedging implements Service {
  readonly name = 'hedging';
  readonly #deps: HedgingDeps;
  readonly #hedges: boolean;

  constructor(deps: HedgingDeps, { hedge }: { readonly hedge: boolean }) {
    this.#deps = deps;
    this.#hedges = hedge;
  }

  run(signal: AbortSignal): Promise<void> {
    const failure = 'slow requests are looked for again in five seconds';
    return periodically(() => this.look(), { ...this.#deps, every: PERIOD, failure }, signal);
  }

  async look(): Promise<void> {
    await this.#turnOutrunBack();
    if (this.#hedges) await this.#hedgeSlow();
  }

  async #turnOutrunBack(): Promise<void> {
    const { store, sagas } = this.#deps;
    const outrun = await store.read
      .selectFrom('attempts')
      .innerJoin('sagas', 'sagas.id', 'attempts.saga_id')
      .select('attempts.saga_id')
      .where('attempts.outrun_at', 'is not', null)
      .where('attempts.ended_at', 'is', null)
      .where('sagas.reason', 'is', null)
      .where('sagas.state', '=', 'running')
      .execute();
    const reason = { code: 'cancelled', message: 'Another machine was ready first.' } as const;
    for (const { saga_id } of outrun) await store.transaction((tx) => sagas.turnBack(tx, saga_id, reason));
  }

  async #hedgeSlow(): Promise<void> {
    const { store, clock, log } = this.#deps;
    const usual = new Map<string, Millis | undefined>();
    for (const attempt of await hedgeable(store.read)) {
      const kind = `${attempt.path} ${attempt.model}`;
      if (!usual.has(kind)) usual.set(kind, await usualTime(store.read, attempt));
      const limit = usual.get(kind) ?? Infinity;
      // Each hedge that found no machine has the next wait for as long again.
      if (clock.now() - begunAt(attempt) <= limit * (1 + attempt.hedged)) continue;
      if (!(await store.transaction((tx) => this.#hedge(tx, attempt, limit)))) continue;
      log.info(
        { request: attempt.request_id, attempt: attempt.id, limit },
        'a slow request is tried on a second machine',
      );
    }
  }

  /** False when something has changed meanwhile, or no machine is free. */
  async #hedge(tx: Tx, attempt: Hedgeable, limit: Millis): Promise<boolean> {
    const { sagas, events, ids, clock } = this.#deps;
    const { id: hedges, saga_id: sagaId, request_id: requestId } = attempt;
    // What turns the attempt back, and what hands its machine over, comes before this or sees what it has begun.
    const spec = (await sagas.hold(tx, sagaId)) as ServerSpec | undefined;
    if (spec === undefined || spec.userData !== undefined) return false;
    await lockRequest(tx, requestId);
    const isStill = ({ id, hedged }: Hedgeable) => id === hedges && hedged === attempt.hedged;
    if (!(await hedgeable(tx)).some(isStill)) return false;
    const attempts = await attemptsOf(tx, requestId);
    const avoid = machinesOf(attempts);
    if (!(await isAnotherFree(tx, spec, avoid))) return false;
    const at = clock.now();
    const attemptId = ids.next('att');
    const number = attempts.length + 1;
    await startAttempt(tx, this.#deps, { number, spec: { ...spec, attemptId, avoid, hedges }, asleep: false, at });
    const { tenantId } = spec;
    const told = { requestId, tenantId, attemptId, attempt: number, hedges, machineId: attempt.machine_id };
    const data = { ...told, waitedMs: at - begunAt(attempt), usualMs: limit };
    await events.append(tx, 'provisioning.hedged', { key: requestId, actor: 'hedging', data });
    return true;
  }
}

const PERIOD: Millis = 5 * SECOND;

type Hedgeable = Pick<AttemptRow, 'id' | 'request_id' | 'saga_id' | 'number' | 'path' | 'created_at'> & {
  readonly machine_id: string;
  readonly model: string;
  readonly dispatched_at: Millis | null;
  /** Hedges of its request that found no machine. */
  readonly hedged: number;
};

/** So often a hedge is begun at most: what is free, and does not suit, is free for long. */
const MOST_HEDGES = 3;

/** The attempts that boot a machine of ours and have the request to themselves, and always had. */
async function hedgeable(read: Reader): Promise<Hedgeable[]> {
  const attempts = await read
    .selectFrom('machines')
    .innerJoin('allocations', 'allocations.machine_id', 'machines.id')
    .innerJoin('attempts', 'attempts.id', 'allocations.attempt_id')
    .innerJoin('requests', 'requests.id', 'attempts.request_id')
    .select(['attempts.id', 'attempts.request_id', 'attempts.saga_id', 'attempts.number', 'attempts.path'])
    .select(['attempts.created_at', 'requests.dispatched_at', 'machines.id as machine_id', 'machines.model'])
    .select((eb) =>
      eb
        .selectFrom('attempts as hedge')
        .select((hedges) => hedges.fn.countAll<number>().as('count'))
        .whereRef('hedge.request_id', '=', 'requests.id')
        .where('hedge.hedges', 'is not', null)
        .as('hedged'),
    )
    .where('machines.state', '=', 'deploying')
    .where('attempts.outcome', '=', 'running')
    .where('requests.state', 'in', inFlightStates)
    .where('machines.model', 'is not', null)
    .where((eb) =>
      eb.not(
        eb.exists(
          eb
            .selectFrom('attempts as hedge')
            .select('hedge.id')
            .whereRef('hedge.request_id', '=', 'requests.id')
            .where('hedge.hedges', 'is not', null)
            .where((hedge) =>
              hedge.or([hedge('hedge.machine_id', 'is not', null), hedge('hedge.outcome', '=', 'running')]),
            ),
        ),
      ),
    )
    .$narrowType<{ model: string; hedged: number }>()
    .execute();
  return attempts.filter(({ hedged }) => hedged < MOST_HEDGES);
}

/** Since when it is worked on: waiting for a turn is no slowness of a machine's. */
function begunAt({ number, created_at, dispatched_at }: Hedgeable): Millis {
  return number === 1 ? (dispatched_at ?? created_at) : created_at;
}

const SLOW = 0.95;

/** So many deploys are looked at, the last ones; of fewer than the least nothing is said. */
const MOST_DEPLOYS = 200;
const LEAST_DEPLOYS = 20;

/**
 * What 95 in 100 whole deploys took no longer than. One that a hedge has won counts with what it waited for: the hedges shall
 * not make deploys look fast.
 */
async function usualTime(read: Reader, { model, path }: Hedgeable): Promise<Millis | undefined> {
  const rows = await read
    .selectFrom('deploy_stages')
    .select('milliseconds')
    .where('stage', '=', 'total')
    .where('model', '=', model)
    .where('path', '=', path)
    .orderBy('ended_at', 'desc')
    .limit(MOST_DEPLOYS)
    .execute();
  const times = rows.map(({ milliseconds }) => milliseconds).sort((a, b) => a - b);
  return times.length < LEAST_DEPLOYS ? undefined : nearestRank(times, SLOW);
}
