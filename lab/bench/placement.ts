import { place, reasonsOf } from '../../scheduler/placement.ts';
import { anyOf, bestFit, machinesOf, ordersOf, PlacementReplay, replay } from './placement-replay.ts';
import type { Order, Policy, Spread } from './placement-replay.ts';
import { lessIsBetter, median, percentile } from './report.ts';
import type { Bench, Row } from './report.ts';

/** How long a decision takes among 10,000 machines, and how it spreads what is ordered, beside best-fit and chance. */
export const bench: Bench = {
  name: 'placement',
  about: 'a machine for an order among 10,000: time of a decision, and spread over racks beside best-fit and random',
  definitions: [
    'decision: filters, scores of all candidates, the choice and its reasons. What each candidate is, is known.',
    '10,000 machines in 250 racks, each rack of one kind; 2,000 orders of 40 tenants, some of whom order most; all by a seed.',
    "a tenant's fullest rack: servers of one tenant in the rack that has most of them, in the mean of all tenants.",
    'new in one rack: of 200 deploys in a row those in the rack that has most of them, in the mean of all such moments.',
    'best-fit: the tightest machine that an order fits in, wherever it stands. random: any that it fits in.',
  ],
  run: (say) => Promise.resolve([...decisions(say), ...spreads(say)]),
};

const SEED = 'placement';
const HALL = { racks: 250, perRack: 40 };
const ORDERS = 2_000;
const TENANTS = 40;
const TIMED = 500;
const LIMIT_MS = 5;

const ours: Policy = ({ request }, candidates) => place(request, candidates).chosen;

/** Each among all machines: what is decided is not taken. */
function decisions(say: (line: string) => void): Row[] {
  const orders = ordersOf(TIMED, TENANTS, SEED);
  const candidates = hallInUse().candidates({ tenantId: 'tenant-0', request: orders[0]!.request });
  const ms = orders.map(({ request }) => {
    const began = performance.now();
    reasonsOf(place(request, candidates));
    return performance.now() - began;
  });
  say(`${String(TIMED)} decisions among ${String(candidates.length)} machines`);
  const row = (what: string, took: number) => {
    const limit = { unit: 'ms', ours: took, peer: LIMIT_MS, peerName: 'limit', aim: 1 };
    return lessIsBetter({ case: `decision among ${String(candidates.length)} machines, ${what}`, ...limit });
  };
  return [row('p50', median(ms)), row('p99', percentile(ms, 0.99))];
}

/** A hall in use: beside what is held, as many are free as the other one has in all. */
function hallInUse(): PlacementReplay {
  const hall = new PlacementReplay(machinesOf({ ...HALL, perRack: HALL.perRack + ORDERS / HALL.racks }, SEED));
  ordersOf(ORDERS, TENANTS, SEED).forEach((order: Order, number) => {
    const machineId = anyOf(SEED)(order, hall.candidates(order), number);
    if (machineId !== undefined) hall.take(order, machineId);
  });
  return hall;
}

function spreads(say: (line: string) => void): Row[] {
  const machines = machinesOf(HALL, SEED);
  const orders = ordersOf(ORDERS, TENANTS, SEED);
  const policies = { ours, 'best-fit': bestFit, random: anyOf(SEED) };
  const spread = Object.fromEntries(
    Object.entries(policies).map(([name, policy]) => {
      const came = replay(machines, orders, policy);
      say(`${name}: ${told(came)}`);
      return [name, came];
    }),
  ) as Record<keyof typeof policies, Spread>;
  const beside = (title: string, unit: string, of: keyof Spread, aim: number) =>
    (['best-fit', 'random'] as const).map((peerName) => {
      const figures = { ours: spread.ours[of], peer: spread[peerName][of], peerName };
      return lessIsBetter({ case: title, unit, ...figures, aim });
    });
  return [
    ...beside("a tenant's fullest rack", 'servers', 'tenantInRack', 1),
    ...beside('new in one rack', 'servers', 'newInRack', 1),
    // What spreading costs: told, not judged.
    ...beside('left unused of a machine', 'share', 'waste', 0),
  ];
}

function told({ placed, tenantInRack, newInRack, waste }: Spread): string {
  const figures = [tenantInRack, newInRack, waste].map((figure) => figure.toFixed(2));
  return `${String(placed)} placed; fullest rack of a tenant ${figures[0]}, new in one rack ${figures[1]}, unused ${figures[2]}`;
}
