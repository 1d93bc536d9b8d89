import { test } from 'tap';

import type { FairnessLimits, Turns, WaitingTenant } from './fairness.ts';
import { takeTurns } from './fairness.ts';

const limits: FairnessLimits = { perTenant: 5, inAll: 1_000 };

function tenant(tenantId: string, change: Partial<Omit<WaitingTenant, 'requests'>> & { queued?: number } = {}) {
  const { queued = 1, ...rest } = change;
  const requests = Array.from({ length: queued }, (_, index) => `${tenantId}${String(index + 1)}`);
  return { tenantId, inFlight: 0, lastTurn: undefined, requests, ...rest };
}

const cases: readonly {
  title: string;
  waiting: readonly WaitingTenant[];
  inFlight?: number;
  limits?: Partial<FairnessLimits>;
  chosen: readonly string[];
  held?: Record<string, string>;
}[] = [
  { title: 'nobody waits', waiting: [], chosen: [] },
  { title: 'within a tenant the oldest goes first', waiting: [tenant('a', { queued: 3 })], chosen: ['a1', 'a2', 'a3'] },
  {
    title: 'a tenant has at most five in flight',
    waiting: [tenant('a', { queued: 7 })],
    chosen: ['a1', 'a2', 'a3', 'a4', 'a5'],
    held: { a: 'tenant-at-limit' },
  },
  {
    title: 'what runs already counts',
    waiting: [tenant('a', { inFlight: 4, queued: 3 }), tenant('b', { inFlight: 5 })],
    inFlight: 9,
    chosen: ['a1'],
    held: { a: 'tenant-at-limit', b: 'tenant-at-limit' },
  },
  {
    title: 'more than the limit in flight, as after it was lowered, hold nobody else up',
    waiting: [tenant('a', { inFlight: 9 }), tenant('b')],
    inFlight: 9,
    chosen: ['b1'],
    held: { a: 'tenant-at-limit' },
  },
  {
    title: 'no room in all',
    waiting: [tenant('a'), tenant('b', { inFlight: 5 })],
    inFlight: 20,
    limits: { inAll: 20 },
    chosen: [],
    held: { a: 'all-at-limit', b: 'tenant-at-limit' },
  },
  {
    title: 'tenants take turns, whatever they have queued',
    waiting: [tenant('a', { queued: 5 }), tenant('b', { queued: 2 })],
    limits: { inAll: 5 },
    chosen: ['a1', 'b1', 'a2', 'b2', 'a3'],
    held: { a: 'all-at-limit' },
  },
  {
    title: 'who has the fewest in flight comes first, also when its turn was the last',
    waiting: [tenant('a', { inFlight: 2, lastTurn: 1 }), tenant('b', { inFlight: 1, lastTurn: 9 })],
    inFlight: 3,
    limits: { inAll: 4 },
    chosen: ['b1'],
    held: { a: 'all-at-limit' },
  },
  {
    title: 'with as many in flight, whose turn is the longest ago; who never had one is first',
    waiting: [tenant('a', { lastTurn: 7 }), tenant('b', { lastTurn: 3 }), tenant('c')],
    limits: { inAll: 2 },
    chosen: ['c1', 'b1'],
    held: { a: 'all-at-limit' },
  },
];

for (const { title, waiting, inFlight = 0, limits: change, chosen, held = {} } of cases) {
  test(title, (t) => {
    const turns = takeTurns(waiting, { inFlight, limits: { ...limits, ...change } });
    t.same(
      turns.chosen.map(({ requestId }) => requestId),
      chosen,
    );
    t.same(Object.fromEntries(turns.held), held);
    const reversed = takeTurns(waiting.toReversed(), { inFlight, limits: { ...limits, ...change } });
    t.same(reversed.chosen, turns.chosen, 'in whatever order they are asked about');
    t.end();
  });
}

const SECONDS = 60;
const room = { perTenant: 5, inAll: 20 };
// As many rounds as it takes until each of the fifty had a place.
const ROUND = SECONDS * Math.ceil(50 / room.inAll);

test('forty-nine modest tenants wait no longer beside one with a thousand requests than their own load explains', (t) => {
  const modest = modestOrders();
  const greedy = Array.from({ length: 1_000 }, () => ({ tenantId: 'greedy', at: 0 }));
  const waits = simulate([...greedy, ...modest], takeTurns);
  t.same(waits.filter(isUnexplained), []);
  t.equal(waits.length, 1_000 + modest.length, 'everybody had a turn');
  const alone = simulate(modest, takeTurns);
  const added = longest(waits) - longest(alone);
  t.ok(added <= ROUND, `the greedy one adds ${String(added)} s to the longest wait`);
  const inOrder = simulate([...greedy, ...modest], oldestFirst);
  t.ok(
    inOrder.filter(isUnexplained).length > 100,
    'whereas with the oldest first they would have waited for the thousand',
  );
  t.end();
});

interface Order {
  readonly tenantId: string;
  readonly at: number;
}

interface Wait extends Order {
  /** How many of its own were queued or in flight when it was ordered. */
  readonly ahead: number;
  readonly wait: number;
}

function isUnexplained({ tenantId, ahead, wait }: Wait): boolean {
  return tenantId !== 'greedy' && wait > ROUND * (ahead + 1);
}

/** A few orders of each in half an hour, at times that are always the same. */
function modestOrders(): Order[] {
  return Array.from({ length: 49 }, (_, tenant) =>
    Array.from({ length: 8 + (tenant % 5) }, (_unused, index) => {
      return { tenantId: `t${String(tenant)}`, at: (tenant * 37 + index * 167) % 1_800 };
    }),
  ).flat();
}

function longest(waits: readonly Wait[]): number {
  return Math.max(...waits.filter(({ tenantId }) => tenantId !== 'greedy').map(({ wait }) => wait));
}

/** Each request takes a minute; second by second. */
function simulate(orders: readonly Order[], turnsOf: typeof takeTurns): Wait[] {
  const left = orders.map((order, index) => ({ ...order, id: String(index).padStart(6, '0') }));
  left.sort((a, b) => a.at - b.at);
  let queue: ((typeof left)[number] & { ahead: number })[] = [];
  let running: { tenantId: string; until: number }[] = [];
  const lastTurns = new Map<string, number>();
  const waits: Wait[] = [];
  for (let now = 0; left.length + queue.length > 0; now += 1) {
    running = running.filter(({ until }) => until > now);
    const of = (tenantId: string) => (one: Order | { tenantId: string }) => one.tenantId === tenantId;
    while (left[0] !== undefined && left[0].at <= now) {
      const [order] = left.splice(0, 1);
      const own = of(order!.tenantId);
      queue.push({ ...order!, ahead: queue.filter(own).length + running.filter(own).length });
    }
    const tenants = [...new Set(queue.map(({ tenantId }) => tenantId))];
    const waiting = tenants.map((tenantId) => ({
      tenantId,
      inFlight: running.filter(of(tenantId)).length,
      lastTurn: lastTurns.get(tenantId),
      requests: queue.filter(of(tenantId)).map(({ id }) => id),
    }));
    for (const { tenantId, requestId } of turnsOf(waiting, { inFlight: running.length, limits: room }).chosen) {
      const order = queue.find(({ id }) => id === requestId)!;
      queue = queue.filter((other) => other !== order);
      running.push({ tenantId, until: now + SECONDS });
      lastTurns.set(tenantId, now);
      waits.push({ ...order, wait: now - order.at });
    }
  }
  return waits;
}

/** What would be without fairness, for comparison. */
function oldestFirst(...[waiting, { inFlight, limits: at }]: Parameters<typeof takeTurns>): Turns {
  const all = waiting.flatMap(({ tenantId, requests }) => requests.map((requestId) => ({ tenantId, requestId })));
  all.sort((a, b) => (a.requestId < b.requestId ? -1 : 1));
  return { chosen: all.slice(0, at.inAll - inFlight), held: new Map() };
}
