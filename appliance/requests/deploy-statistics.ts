import { setImmediate as nextTurn } from 'node:timers/promises';

import { nearestRank } from '../../scheduler/nearest-rank.ts';
import type { Millis } from '../kernel/clock.ts';
import type { DeployStageRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import { timedSpans } from './deploy-times.ts';

export type DeployKind = Pick<DeployStageRow, 'model' | 'firmware' | 'path'>;

/** Which deploys are meant: those that ended since, and, where named, were of this region and kind. */
export interface DeployFilter {
  readonly since: Millis;
  readonly regionId?: string;
  readonly model?: string;
  readonly firmware?: 'bios' | 'uefi';
  readonly path?: 'cold' | 'warm';
}

export interface SpanTimes {
  readonly span: (typeof timedSpans)[number];
  readonly deploys: number;
  readonly p50: Millis;
  readonly p99: Millis;
}

export interface DeployTimes {
  readonly deploys: number;
  /** How many of them took no longer than the target, from the API call to SSH. */
  readonly withinTarget: number;
  /** In the order of `timedSpans`; a span that no deploy was timed for is not there. */
  readonly spans: readonly SpanTimes[];
}

export interface DeployStatistics {
  readonly all: DeployTimes;
  /** By hardware model, firmware and path, the most deploys first. */
  readonly kinds: readonly (DeployKind & DeployTimes)[];
}

/** How long deploys took, all of them and by kind; exact, over every deploy that the filter takes in. */
export async function deployStatistics(read: Reader, filter: DeployFilter, target: Millis): Promise<DeployStatistics> {
  const all = new Collected(target);
  const kinds = new Map<string, { kind: DeployKind; times: Collected }>();
  // SQLite answers while everybody else waits: all at once, 10,000 deploys would keep a DHCP reply for 170 ms. So a query
  // for each span, a tenth of that, and a turn for others before it.
  for (const span of timedSpans) {
    await nextTurn();
    const rows = await timesOf(read, span, filter);
    all.add(
      span,
      rows.map(({ milliseconds }) => milliseconds),
    );
    for (const [key, [{ model, firmware, path }, times]] of byKind(rows)) {
      const known = kinds.get(key) ?? { kind: { model, firmware, path }, times: new Collected(target) };
      known.times.add(span, times);
      kinds.set(key, known);
    }
  }
  return {
    all: all.result(),
    kinds: [...kinds.values()]
      .map(({ kind, times }) => ({ ...kind, ...times.result() }))
      .sort((a, b) => b.deploys - a.deploys || (a.model ?? '').localeCompare(b.model ?? '')),
  };
}

type Row = DeployKind & { readonly milliseconds: Millis };

/** The fastest first. */
function timesOf(
  read: Reader,
  span: string,
  { since, regionId, model, firmware, path }: DeployFilter,
): Promise<readonly Row[]> {
  let query = read
    .selectFrom('deploy_stages')
    .select(['model', 'firmware', 'path', 'milliseconds'])
    .where('stage', '=', span)
    .where('ended_at', '>', since);
  if (regionId !== undefined) query = query.where('region_id', '=', regionId);
  if (model !== undefined) query = query.where('model', '=', model);
  if (firmware !== undefined) query = query.where('firmware', '=', firmware);
  if (path !== undefined) query = query.where('path', '=', path);
  return query.orderBy('milliseconds').execute();
}

function byKind(rows: readonly Row[]): Map<string, readonly [DeployKind, Millis[]]> {
  const kinds = new Map<string, readonly [DeployKind, Millis[]]>();
  for (const row of rows) {
    const key = JSON.stringify([row.model, row.firmware, row.path]);
    const known = kinds.get(key);
    if (known === undefined) kinds.set(key, [row, [row.milliseconds]]);
    else known[1].push(row.milliseconds);
  }
  return kinds;
}

/** The times of some deploys, span by span. */
class Collected {
  readonly #target: Millis;
  readonly #spans: SpanTimes[] = [];
  #deploys = 0;
  #withinTarget = 0;

  constructor(target: Millis) {
    this.#target = target;
  }

  add(span: SpanTimes['span'], sorted: readonly Millis[]): void {
    if (sorted.length === 0) return;
    const [p50, p99] = [nearestRank(sorted, 0.5), nearestRank(sorted, 0.99)];
    this.#spans.push({ span, deploys: sorted.length, p50, p99 });
    if (span !== 'total') return;
    this.#deploys = sorted.length;
    this.#withinTarget = sorted.filter((time) => time <= this.#target).length;
  }

  result(): DeployTimes {
    return { deploys: this.#deploys, withinTarget: this.#withinTarget, spans: this.#spans };
  }
}
