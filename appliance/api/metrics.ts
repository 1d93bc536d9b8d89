import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

import type { Timeline } from '../../pxe/timeline.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { MINUTE, SECOND } from '../kernel/clock.ts';
import type { Guards } from '../kernel/guard.ts';
import type { StageTimes, TimedStage } from '../kernel/stage-times.ts';
import { hostTime } from '../kernel/steady-clock.ts';
import { noticedByStage } from '../machines/late-boots.ts';
import type { DeployKind, DeployStatistics, DeployTimes } from '../requests/deploy-statistics.ts';
import { deployStatistics } from '../requests/deploy-statistics.ts';
import { TIMES_KEPT } from '../requests/deploy-times.ts';
import type { Reader } from '../store/store.ts';
import { guardMetrics } from './guard-metrics.ts';
import { poolMetrics } from './pool-metrics.ts';
import type { NamedPool } from './pools.ts';
import type { LimitedBy } from './rate-limit.ts';

/**
 * The stages of an order up to its machine; admission is names, quota and rows. The body takes the caller's time. What is timed
 * where it happens, quota and placement, may take several turns: each is told.
 */
type OrderStage = 'auth' | 'body' | 'validation' | 'admission' | TimedStage;

/**
 * What the daemon tells Prometheus. Labels are names from the code and from the catalogue of states; what comes from
 * outside is either not in them or, as hardware models are, cleaned and limited in number. No label holds an id.
 */
export class Metrics implements StageTimes {
  readonly #registry = new Registry();
  readonly #requests: Histogram<'method' | 'route' | 'status'>;
  readonly #order: Histogram<'stage'>;
  readonly #limited: Counter<'by'>;
  readonly #seen: Counter<'source' | 'name'>;

  constructor({ read, clock, deployTarget }: { read: Reader; clock: Clock; deployTarget: Millis }) {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    this.#requests = new Histogram({
      name: 'rackstart_api_request_seconds',
      help: 'Time from a request to its answer, by route pattern.',
      labelNames: ['method', 'route', 'status'],
      buckets: [0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10],
      registers,
    });
    this.#order = new Histogram({
      name: 'rackstart_order_stage_seconds',
      help: 'Stages of ordering a server, up to the choice of its machine; admission has quota in it.',
      labelNames: ['stage'],
      // What they may take is in it: 2 ms for validation, 5 for auth, 8 for quota, 15 for placement.
      buckets: [0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.008, 0.015, 0.03, 0.05, 0.25, 1],
      registers,
    });
    this.#limited = new Counter({
      name: 'rackstart_api_rate_limited_total',
      help: 'Requests refused because their key, or their address, asked too often.',
      labelNames: ['by'],
      registers,
    });
    this.#seen = new Counter({
      name: 'rackstart_boot_plane_seen_total',
      help: 'Packets, HTTP requests, BMC commands and reports that the boot plane has seen.',
      labelNames: ['source', 'name'],
      registers,
    });
    states(registers, read, clock);
    deploys(registers, read, clock, deployTarget);
    lateBoots(registers, read, clock);
  }

  /** Times every request of this API, and counts its WebSockets. */
  watch(app: FastifyInstance): void {
    new Gauge({
      name: 'rackstart_api_live_connections',
      help: 'WebSockets that follow events.',
      registers: [this.#registry],
      collect() {
        this.set(app.websocketServer.clients.size);
      },
    });
    app.addHook('onResponse', async ({ method, routeOptions: { url } }, reply) => {
      // What matched no route has any path and any method.
      const labels = url === undefined ? { method: 'any', route: 'none' } : { method, route: url };
      this.#requests.observe({ ...labels, status: String(reply.statusCode) }, reply.elapsedTime / SECOND);
    });
  }

  /** Times the stages of ordering a server, in a scope whose requests have been authenticated. */
  watchOrders(scope: FastifyInstance): void {
    const since = new WeakMap<FastifyRequest, Millis>();
    const ended = (stage: OrderStage) => async (request: FastifyRequest, reply: FastifyReply) => {
      if (request.method !== 'POST' || request.routeOptions.url !== '/api/v1/servers') return;
      // What was refused on its way says nothing of the stages that it did not come to.
      if (stage === 'admission' && reply.statusCode !== 202) return;
      const now = reply.elapsedTime;
      if (stage !== 'body') this.#order.observe({ stage }, (now - (since.get(request) ?? 0)) / SECOND);
      since.set(request, now);
    };
    scope.addHook('onRequest', ended('auth'));
    scope.addHook('preValidation', ended('body'));
    scope.addHook('preHandler', ended('validation'));
    scope.addHook('onResponse', ended('admission'));
  }

  async timed<T>(stage: TimedStage, work: () => Promise<T>): Promise<T> {
    const since = hostTime.monotonic();
    const result = await work();
    this.#order.observe({ stage }, (hostTime.monotonic() - since) / SECOND);
    return result;
  }

  /** Whether daemons on one database hear of each other at once. */
  redis(connected: () => boolean): void {
    new Gauge({
      name: 'rackstart_redis_connected',
      help: 'Whether Redis is connected; without it processes look by themselves, every second or every five.',
      registers: [this.#registry],
      collect() {
        this.set(connected() ? 1 : 0);
      },
    });
  }

  watchGuards(guards: Guards): void {
    guardMetrics([this.#registry], guards);
  }

  watchPools(pools: () => Promise<readonly NamedPool[]>): void {
    poolMetrics([this.#registry], pools);
  }

  limited(by: LimitedBy): void {
    this.#limited.inc({ by });
  }

  /** The same timeline, whose entries are counted on their way. */
  counting(timeline: Timeline): Timeline {
    const named = atMost(MOST_NAMES);
    return {
      seen: (owner, entry) => {
        this.#seen.inc({ source: entry.source, name: named(entry.name) });
        timeline.seen(owner, entry);
      },
    };
  }

  /** In Prometheus' text format, 0.0.4. */
  async text(): Promise<{ type: string; text: string }> {
    return { type: this.#registry.contentType, text: await this.#registry.metrics() };
  }
}

/** `GET /metrics`, for Prometheus with an operator's key. */
export function metricsRoute(app: FastifyInstance, metrics: Metrics): void {
  app.get('/metrics', { config: { right: 'fleet:read' }, schema: { hide: true } }, async (_request, reply) => {
    const { type, text } = await metrics.text();
    return reply.type(type).send(text);
  });
}

// However often somebody scrapes, the database is asked no more often than this.
const STATES_HOLD: Millis = 10 * SECOND;
const DEPLOYS_HOLD: Millis = MINUTE;
// Of hardware models, firmware and path: the rarer ones are left to `GET /api/v1/performance`.
const MOST_KINDS = 50;
const MOST_NAMES = 100;

type Registers = Registry[];

/** How many rows are in which state. */
function states(registers: Registers, read: Reader, clock: Clock): void {
  const counted = [
    { name: 'rackstart_requests', help: 'Requests by state.', table: 'requests', column: 'state' },
    { name: 'rackstart_attempts', help: 'Attempts to deploy, by outcome.', table: 'attempts', column: 'outcome' },
    { name: 'rackstart_machines', help: 'Machines by state.', table: 'machines', column: 'state' },
    { name: 'rackstart_sagas', help: 'Sagas by state; a stuck one waits for people.', table: 'sagas', column: 'state' },
    { name: 'rackstart_orphans', help: 'What is held and nobody owns.', table: 'orphans', column: 'provider' },
  ] as const;
  for (const { name, help, table, column } of counted) {
    const known = new Set<string>();
    const rows = held(clock, STATES_HOLD, () =>
      read
        .selectFrom(table)
        .select((eb) => [eb.ref(column).as('state'), eb.fn.countAll<number>().as('count')])
        .groupBy(column)
        .execute(),
    );
    new Gauge({
      name,
      help,
      labelNames: [column],
      registers,
      async collect() {
        const now = new Map<string, number>((await rows()).map(({ state, count }) => [state, count]));
        // What a state had and has no more is 0, not gone.
        for (const state of [...known, ...now.keys()]) {
          known.add(state);
          this.set({ [column]: state }, now.get(state) ?? 0);
        }
      },
    });
  }
}

/** Exact percentiles over 30 days: they can not be added up, so all deploys together have metrics of their own. */
function deploys(registers: Registers, read: Reader, clock: Clock, target: Millis): void {
  const statistics = held(clock, DEPLOYS_HOLD, () =>
    deployStatistics(read, { since: clock.now() - TIMES_KEPT }, target),
  );
  const gauge = <Label extends string>(
    name: string,
    help: string,
    labelNames: Label[],
    set: (gauge: Gauge<Label>, now: DeployStatistics) => void,
  ) =>
    new Gauge({
      name: `rackstart_${name}`,
      help: `${help}, over 30 days.`,
      labelNames,
      registers,
      async collect() {
        const now = await statistics();
        this.reset();
        set(this, now);
      },
    });
  // The most frequent last: of two models that look alike in a label it is the one that is told.
  const commonest = ({ kinds }: DeployStatistics) => kinds.slice(0, MOST_KINDS).toReversed();

  gauge('deploy_seconds', 'Percentiles of what deploys took', ['span', 'quantile'], (all, now) => {
    for (const { span, quantile, seconds } of quantiles(now.all)) all.set({ span, quantile }, seconds);
  });
  gauge('deploys', 'Completed deploys', [], (all, now) => all.set(now.all.deploys));
  gauge('deploys_within_target_ratio', 'Share of deploys that met the target', [], (all, now) => {
    if (now.all.deploys > 0) all.set(now.all.withinTarget / now.all.deploys);
  });
  gauge('deploy_target_seconds', 'What a deploy may take, from the API call to SSH', [], (all) =>
    all.set(target / SECOND),
  );
  gauge(
    'deploy_kind_seconds',
    'Percentiles of what deploys took, by hardware and path',
    [...kindLabels, 'span', 'quantile'],
    (byKind, now) => {
      for (const kind of commonest(now)) {
        for (const { span, quantile, seconds } of quantiles(kind))
          byKind.set({ ...labelsOf(kind), span, quantile }, seconds);
      }
    },
  );
  gauge('deploy_kind_deploys', 'Completed deploys, by hardware and path', [...kindLabels], (byKind, now) => {
    for (const kind of commonest(now)) byKind.set(labelsOf(kind), kind.deploys);
  });
  gauge(
    'deploy_kind_within_target_ratio',
    'Share of deploys that met the target, by hardware and path',
    [...kindLabels],
    (byKind, now) => {
      for (const kind of commonest(now)) {
        if (kind.deploys > 0) byKind.set(labelsOf(kind), kind.withinTarget / kind.deploys);
      }
    },
  );
}

/** Like those of deploys; stages are names of ours, so that there are few. */
function lateBoots(registers: Registers, read: Reader, clock: Clock): void {
  const late = held(clock, DEPLOYS_HOLD, () => noticedByStage(read, { since: clock.now() - TIMES_KEPT }));
  new Gauge({
    name: 'rackstart_boot_noticed_seconds',
    help: 'Percentiles of how long boots stood still in a stage until they were given up, over 30 days.',
    labelNames: ['stage', 'quantile'],
    registers,
    async collect() {
      const now = await late();
      this.reset();
      for (const [stage, { p50, p99 }] of now) {
        this.set({ stage, quantile: '0.5' }, p50 / SECOND);
        this.set({ stage, quantile: '0.99' }, p99 / SECOND);
      }
    },
  });
  new Gauge({
    name: 'rackstart_boots_late',
    help: 'Boots that were given up because they stood still in a stage, over 30 days.',
    labelNames: ['stage'],
    registers,
    async collect() {
      const now = await late();
      this.reset();
      for (const [stage, { boots }] of now) this.set({ stage }, boots);
    },
  });
}

const kindLabels = ['model', 'firmware', 'path'] as const;

function quantiles({ spans }: DeployTimes) {
  return spans.flatMap(({ span, p50, p99 }) => [
    { span, quantile: '0.5', seconds: p50 / SECOND },
    { span, quantile: '0.99', seconds: p99 / SECOND },
  ]);
}

// A model is whatever somebody's firmware says.
function labelsOf({ model, firmware, path }: DeployKind) {
  const clean = (model ?? '').replaceAll(/\p{C}/gu, '').trim().slice(0, 64);
  return { model: clean === '' ? 'unknown' : clean, firmware: firmware ?? 'unknown', path };
}

/** Asks again when the last answer is older than `hold`; who asks meanwhile gets the same one. */
function held<T>(clock: Clock, hold: Millis, ask: () => Promise<T>): () => Promise<T> {
  let last: { at: Millis; answer: Promise<T> } | undefined;
  return () => {
    const now = clock.now();
    if (last !== undefined && Math.abs(now - last.at) < hold) return last.answer;
    const asked = { at: now, answer: ask() };
    last = asked;
    asked.answer.catch(() => {
      if (last === asked) last = undefined;
    });
    return asked.answer;
  };
}

/** Names as they are, until there are too many different ones. */
function atMost(count: number): (name: string) => string {
  const known = new Set<string>();
  return (name) => {
    if (known.size < count) known.add(name);
    return known.has(name) ? name : 'other';
  };
}
