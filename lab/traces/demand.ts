import { seededRandom } from '../loss/seeded-random.ts';

/** The orders of one region and flavor, and the fleet they are served from. */
export interface Demand {
  readonly name: string;
  /** What was assumed, for whoever reads the trace. */
  readonly about: string;
  /** Machines in all: so many that the fullest moment leaves a fifth of them free. */
  readonly capacity: number;
  /** Seconds from the trace's beginning, ascending. */
  readonly orders: readonly number[];
}

/** A Monday: traces begin with a whole week. */
export const traceBegin = Date.UTC(2026, 5, 1);
export const traceDays = 90;

const DAY_S = 86_400;

/** What a trace was drawn from: how many orders an hour has on average at a moment, and their variance over their mean. */
export interface Law {
  readonly perHour: (at: number) => number;
  readonly dispersion: number;
}

/**
 * Three shapes that demand has where machines are sold by the hour. Written down before any forecast was run on them, and not
 * changed since; no forecast assumes what is assumed here.
 */
export function makeDemands(): Demand[] {
  return [
    demand(
      'seasonal',
      'people at work: 2 orders an hour by night, 10 in the early afternoon, 0.4 of that at weekends; each day as a whole ' +
        'stronger or weaker by chance (log-normal, sigma 0.15)',
      1,
      (chance) => {
        const days = Array.from({ length: traceDays }, () => Math.exp(DAY_SIGMA * normal(chance)));
        return arrivals(chance, (at) => atWork(at) * (days[Math.floor(at / DAY_S)] ?? 1));
      },
    ),
    demand(
      'bursty',
      'a thin stream (0.5 orders an hour, 1 by day) and some 3 clusters a day, by day three times as often as by night: each ' +
        'orders 12 machines on average (geometric, at most 60) some 10 s apart, and 3 in 10 are followed by another within hours',
      2,
      (chance) => {
        const clusters = arrivals(chance, clustersPerHour);
        const followers = clusters.filter(() => chance() < FOLLOWED).map((at) => at + exponential(chance, FOLLOWED_S));
        const machines = [...clusters, ...followers].flatMap((at) => cluster(chance, at));
        return [...arrivals(chance, thinStream), ...machines];
      },
    ),
    demand(
      'growing',
      'people at work as in `seasonal`, from a quarter of its strength to twice it within the 90 days, evenly in the logarithm; ' +
        'on day 55 a tenant arrives who orders 2 an hour at all hours',
      3,
      (chance) => arrivals(chance, growing),
    ),
  ];
}

/** Nobody knows it who forecasts: with it, what can be had at best is told. */
export function lawOf(name: string): Law {
  if (name === 'seasonal') return { perHour: (at) => Math.exp(DAY_SIGMA ** 2 / 2) * atWork(at), dispersion: 1 };
  if (name === 'growing') return { perHour: growing, dispersion: 1 };
  // Of a geometric cluster's size the mean of the squares is 2 × 12 - 1 times the mean; two orders in three come in clusters.
  return { perHour: (at) => thinStream(at) + CLUSTER * (clustersPerHour(at) + followersPerHour(at)), dispersion: 16 };
}

const DAY_SIGMA = 0.15;
const CLUSTER = 12;
const FOLLOWED = 0.3;
const FOLLOWED_S = 3 * 3_600;

function atWork(at: number): number {
  return (2 + 8 * officeHours(at)) * weekday(at);
}

function growing(at: number): number {
  return atWork(at) * 0.25 * 8 ** (at / (traceDays * DAY_S)) + (at > 55 * DAY_S ? 2 : 0);
}

function thinStream(at: number): number {
  return 0.5 + 0.5 * officeHours(at);
}

function clustersPerHour(at: number): number {
  return (2.5 / 24) * (0.6 + 1.2 * officeHours(at));
}

/** Of the clusters of the hours before, those that are followed now. */
function followersPerHour(at: number): number {
  const hours = Array.from({ length: 24 }, (_, hour) => hour + 0.5);
  const share = (hour: number) => (3_600 / FOLLOWED_S) * Math.exp((-hour * 3_600) / FOLLOWED_S);
  return hours.reduce((sum, hour) => sum + FOLLOWED * share(hour) * clustersPerHour(at + DAY_S - hour * 3_600), 0);
}

function demand(name: string, about: string, seed: number, make: (chance: () => number) => number[]): Demand {
  const chance = seededRandom(seed);
  const orders = make(chance)
    .map(Math.floor)
    .filter((at) => at < traceDays * DAY_S)
    .sort((a, b) => a - b);
  return { name, about, capacity: Math.ceil(mostLeased(chance, orders) / 0.8), orders };
}

/**
 * How many machines are leased at the fullest moment. A lease lasts 12 h in the median and a day on average (log-normal, sigma
 * 1.2): short for bare metal, so that the fleet, and with it the pool that is a fifth of it, is small beside the orders.
 */
function mostLeased(chance: () => number, orders: readonly number[]): number {
  const changes = orders.flatMap((from) => [
    { at: from, by: 1 },
    { at: from + 12 * 3_600 * Math.exp(1.2 * normal(chance)), by: -1 },
  ]);
  let leased = 0;
  let most = 0;
  for (const { by } of changes.sort((a, b) => a.at - b.at)) {
    leased += by;
    most = Math.max(most, leased);
  }
  return most;
}

/** From 0 by night to 1 at 14 h UTC; above a half from 9 to 19 h. */
function officeHours(at: number): number {
  const hour = (at % DAY_S) / 3_600;
  return Math.exp(-(((hour - 14) / 6) ** 2));
}

function weekday(at: number): number {
  return Math.floor(at / DAY_S) % 7 < 5 ? 1 : 0.4;
}

/** A Poisson process whose rate (orders an hour) changes, minute by minute. */
function arrivals(chance: () => number, perHour: (at: number) => number): number[] {
  const orders: number[] = [];
  for (let minute = 0; minute < traceDays * DAY_S; minute += 60) {
    const apart = 3_600 / perHour(minute);
    for (let at = exponential(chance, 1); at * apart < 60; at += exponential(chance, 1)) {
      orders.push(minute + at * apart);
    }
  }
  return orders;
}

function cluster(chance: () => number, at: number): number[] {
  const size = Math.min(60, 1 + Math.floor(Math.log(1 - chance()) / Math.log(1 - 1 / CLUSTER)));
  return Array.from({ length: size }, () => (at += exponential(chance, 10)));
}

function exponential(chance: () => number, mean: number): number {
  return -mean * Math.log(1 - chance());
}

// Box and Muller, 1958.
function normal(chance: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - chance())) * Math.cos(2 * Math.PI * chance());
}
