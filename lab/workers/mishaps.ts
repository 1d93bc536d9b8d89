import { setTimeout as pause } from 'node:timers/promises';
import type { Pool } from 'pg';

import { draw } from '../../appliance/kernel/seeded.ts';
import type { TestRedis } from '../test/redis.ts';
import type { Workers } from './workers.ts';

export interface Victims {
  workers: Workers;
  redis: TestRedis;
  database: Pool;
}

/** How often each happened. */
export interface Mishaps {
  workerKills: number;
  redisKills: number;
  cuts: number;
  connectionsCut: number;
  standstills: number;
}

/** Between one mishap and the next, ms. */
const QUIET = { least: 1_000, most: 6_000 };
/** Each happens once in every round. */
const ROUND = ['kill', 'redis', 'kill again', 'cut'] as const;
/** How long Redis is gone, and a worker, ms. */
const GONE = { least: 200, most: 3_000 };
/** Longer than its leases, of 30 s: others take over what it has in hand, and it knows nothing of that when it goes on. */
const STANDSTILL_MS = 34_000;
/** Orders are under way by then. */
const STANDSTILL_AFTER_MS = 4_000;

type Say = (line: string) => Promise<void>;

/**
 * One mishap after another, each following from the seed, until the signal. Beside them, once, a worker stands still and goes on.
 * At the end all are back.
 */
export async function mishapsUntil(over: AbortSignal, victims: Victims, seed: string, say: Say): Promise<Mishaps> {
  const told: Mishaps = { workerKills: 0, redisKills: 0, cuts: 0, connectionsCut: 0, standstills: 0 };
  await Promise.all([oneAfterAnother(over, victims, seed, say, told), standstill(victims.workers, seed, say, told)]);
  return told;
}

async function oneAfterAnother(
  over: AbortSignal,
  { workers, redis, database }: Victims,
  seed: string,
  say: Say,
  told: Mishaps,
): Promise<void> {
  for (let number = 0; ; number += 1) {
    const chance = (what: string) => draw(seed, 'mishap', what, number);
    const between = ({ least, most }: typeof QUIET, what: string) => least + (most - least) * chance(what);
    await pause(between(QUIET, 'quiet'));
    if (over.aborted) return;
    const round = Math.floor(number / ROUND.length);
    const order = ROUND.toSorted((a, b) => draw(seed, 'turn', round, a) - draw(seed, 'turn', round, b));
    const kind = order[number % ROUND.length];
    const gone = between(GONE, 'gone');
    if (kind === 'kill' || kind === 'kill again') {
      const index = chosen(workers, chance('worker'), { but: stillOne(workers, seed) });
      await workers.kill(index);
      await pause(gone);
      await workers.start(index);
      told.workerKills += 1;
      await say(`worker ${index} was killed, and is back`);
    } else if (kind === 'redis') {
      await redis.kill();
      await pause(gone);
      await redis.start();
      told.redisKills += 1;
      await say(`Redis was gone for ${gone.toFixed(0)} ms`);
    } else {
      const { rowCount } = await database.query(CUT);
      told.cuts += 1;
      told.connectionsCut += rowCount ?? 0;
      await say(`${rowCount ?? 0} connections to PostgreSQL were cut`);
    }
  }
}

/** A worker that nobody kills stands still meanwhile, as on a host that is suspended. */
async function standstill(workers: Workers, seed: string, say: Say, told: Mishaps): Promise<void> {
  await pause(STANDSTILL_AFTER_MS);
  const index = stillOne(workers, seed);
  workers.freeze(index);
  await say(`worker ${index} stands still`);
  await pause(STANDSTILL_MS);
  workers.thaw(index);
  told.standstills += 1;
  await say(`worker ${index} goes on after ${STANDSTILL_MS / 1_000} s`);
}

const stillOne = (workers: Workers, seed: string) => chosen(workers, draw(seed, 'stands still'));

function chosen({ count }: Workers, chance: number, { but }: { but?: number } = {}): number {
  const indexes = Array.from({ length: count }, (_, index) => index).filter((index) => index !== but);
  return indexes[Math.floor(chance * indexes.length)]!;
}

// As a restart of the server would; those of others on it are let be.
const CUT = `select pg_terminate_backend(pid) from pg_stat_activity
  where application_name = 'rackstart' and datname = current_database()`;
