import type { EventRecord } from '../events/event-log.ts';
import { sqliteStore } from '../store/test-stores.ts';
import { addTenant } from '../tenants/tenants.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { inFlightStates } from './request-states.ts';

const LIMITS = { perTenant: 5, inAll: 20 };
const GREEDY = 't1';

sqliteStore(
  'one tenant with thirty orders before all others makes none of fifty wait for them',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 0, fairness: LIMITS });
    const modest = Array.from({ length: 49 }, (_, index) => `modest-${String(index)}`);
    const at = clock.now();
    await store.transaction(async (tx) => {
      for (const id of modest) await addTenant(tx, { id, name: id }, { ids: pipeline.ids, at });
    });
    const order = (tenantId: string) => pipeline.order({ provider: 'simulation' }, { tenantId });
    const ids: string[] = [];
    for (let count = 0; count < 30; count += 1) ids.push(await order(GREEDY));
    for (const tenantId of modest) ids.push(await order(tenantId));
    await pipeline.untilRequest(ids[29]!, 'completed');
    await pipeline.until('all are completed', async () => {
      const { left } = await store.read
        .selectFrom('requests')
        .select(({ fn }) => fn.countAll<number>().as('left'))
        .where('state', '<>', 'completed')
        .executeTakeFirstOrThrow();
      return left === 0;
    });

    const { turns, most } = follow(await pipeline.events());
    t.same(most, { ofTenant: 5, inAll: 20 }, 'all places are used, and no more');
    t.same(
      turns.slice(0, 5),
      Array.from({ length: 5 }, () => GREEDY),
      'while it was alone',
    );
    t.same(turns.slice(5, 54), modest, 'then each of the others, in the order in which they came');
    t.same(new Set(turns.slice(54)), new Set([GREEDY]));
    t.equal(turns.length, 79, 'and in the end it had all that it asked for');
    await pipeline.isHealthy(t);
  },
);

/** Who had a turn, in that order, and how many were in flight at most, as the log of events has it. */
function follow(events: readonly EventRecord[]) {
  const [turns, inFlight] = [[] as string[], new Map<string, string>()];
  const most = { ofTenant: 0, inAll: 0 };
  for (const { type, key, tenantId = '', data } of events) {
    if (type !== 'request.state-changed') continue;
    if (data.to === 'allocating') turns.push(tenantId);
    if ((inFlightStates as readonly string[]).includes(data.to)) inFlight.set(key, tenantId);
    else inFlight.delete(key);
    const ofTenant = [...Map.groupBy(inFlight.values(), (one) => one).values()].map(({ length }) => length);
    most.ofTenant = Math.max(most.ofTenant, ...ofTenant);
    most.inAll = Math.max(most.inAll, inFlight.size);
  }
  return { turns, most };
}
