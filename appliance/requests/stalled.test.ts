import { twoMachines } from '../../pxe/timeline.fixture.ts';
import { createEventLog } from '../events/event-log.ts';
import { Sequencer } from '../events/sequencer.ts';
import { MINUTE } from '../kernel/clock.ts';
import { createIds } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { Sagas } from '../saga/sagas.ts';
import type { Store } from '../store/store.ts';
import { eachStore } from '../store/test-stores.ts';
import { timedDeploys } from './deploy-times.fixture.ts';
import type { RequestState } from './request-states.ts';
import { StalledRequests } from './stalled.ts';

const LIMIT = 30 * MINUTE;

eachStore('a request in which nothing happens for half an hour is turned back', async (t, store, { clock }) => {
  const { watch, put, reason, forget } = await open(store, clock);
  for (const state of ['allocating', 'configuring', 'activating', 'verifying'] as const) {
    await put(state, clock.now() - LIMIT + 1);
    await watch.look();
    t.equal(await reason(), undefined, `${state}, a millisecond early`);
    await put(state, clock.now() - LIMIT);
    await watch.look();
    const message = `Nothing has happened to it for 30 minutes while it was ${state}.`;
    t.match(await reason(), { code: 'request.stalled', message });
    await forget();
  }
});

eachStore('the clock stands while nobody works on a request', async (t, store, { clock }) => {
  const { watch, put, reason } = await open(store, clock);
  for (const state of ['queued', 'pending-approval', 'completed', 'suspended'] as const) {
    await put(state, clock.now() - 2 * LIMIT);
    await watch.look();
    t.equal(await reason(), undefined, state);
  }
});

eachStore('a sign of life from the machine that boots for it is progress', async (t, store, { clock }) => {
  const { watch, put, reason } = await open(store, clock);
  await put('activating', clock.now() - 2 * LIMIT);
  const seenAt = (at: number) =>
    store.transaction((tx) => tx.updateTable('boot_sessions').set({ seen_at: at }).execute());
  await twoMachines(store);
  await store.transaction((tx) => tx.updateTable('boot_orders').set({ attempt_id: 'att_0' }).execute());
  await seenAt(clock.now() - LIMIT + 1);
  await watch.look();
  t.equal(await reason(), undefined);
  await seenAt(clock.now() - LIMIT);
  await watch.look();
  t.match(await reason(), { code: 'request.stalled' });
});

eachStore('of a rollback that stands still people are told every half an hour', async (t, store, { clock }) => {
  const { watch, put, reason, alerts } = await open(store, clock);
  await put('rolling-back', clock.now() - LIMIT);
  await watch.look();
  await watch.look();
  t.match(await alerts(), [{ data: { subject: 'srv_0', code: 'request.stalled' } }]);
  await clock.advance(LIMIT);
  await Promise.all([watch.look(), watch.look()]);
  t.equal((await alerts()).length, 2, 'once, however many look');
  t.equal(await reason(), undefined, 'it has nowhere else to go');
});

/** One request, its saga asleep, as they are when whoever works on them has forgotten them. */
async function open(store: Store, clock: ManualClock) {
  const deps = { store, clock, log: silentLog, ids: createIds(clock) };
  const sequencer = new Sequencer(deps);
  const events = createEventLog({ ...deps, sequencer });
  const watch = new StalledRequests({ ...deps, events, sagas: new Sagas(deps) }, LIMIT);
  await timedDeploys(store, [{ endedAt: 0, spans: { boot: 1 } }]);
  await store.transaction(async (tx) => {
    const plan = { name: 'provision', version: 1, tenant_id: 't1', subject: 'att_0', params: '{}', reason: null };
    const free = { owner: null, epoch: 0, lease_expires_at: 0, wake_at: 2 ** 45, created_at: 0, ended_at: null };
    await tx
      .insertInto('sagas')
      .values({ id: 'saga_0', ...plan, ...free, state: 'running' })
      .execute();
  });
  return {
    watch,
    put: (state: RequestState, at: number) =>
      store.transaction((tx) =>
        tx.updateTable('requests').set({ state, updated_at: at, completed_at: null }).execute(),
      ),
    /** As if nobody had ever looked. */
    forget: () =>
      store.transaction(async (tx) => {
        await tx.updateTable('requests').set({ progress_at: null }).execute();
        await tx.updateTable('sagas').set({ reason: null }).execute();
      }),
    reason: async () => {
      const { reason } = await store.read.selectFrom('sagas').select('reason').executeTakeFirstOrThrow();
      return reason === null ? undefined : (JSON.parse(reason) as unknown);
    },
    alerts: async () => {
      await sequencer.sequence();
      return (await events.read(0, 100)).filter(({ type }) => type === 'alert.raised');
    },
  };
}
