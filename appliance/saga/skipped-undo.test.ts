import { examine } from '../store/doctor.ts';
import { eachStore } from '../store/test-stores.ts';
import { planned, resourcePlan } from './resource-plan.ts';
import type { Resource } from './resource-plan.ts';
import { resourceStep } from './resource-step.ts';
import { bindSaga, saga } from './saga.ts';
import { done } from './step.ts';
import { begin, cancelled, row } from './test-sagas.ts';
import type { Params } from './test-sagas.ts';

const kept: Resource<null, null, unknown> = {
  create: async () => done(null),
  find: async () => undefined,
  delete: () => Promise.reject(new Error('it cannot be deleted')),
};

eachStore(
  'what an operator has skipped is on the operator: the doctor does not ask for it',
  async (t, store, { clock }) => {
    const step = resourceStep(() => resourcePlan(planned('kept', kept, null)));
    const definition = saga<Params, unknown>('skipped', 1).step('keep', step).build();
    const process = begin(t, store, clock, [bindSaga(definition, undefined)]);
    const id = await process.start(definition, { subject: 's', params: { name: 'p' } });
    const untilSaga = (state: string) => process.runUntil(async () => (await row(store, id)).state === state);
    await untilSaga('completed');
    await store.transaction((tx) => process.sagas.turnBack(tx, id, cancelled));
    await untilSaga('stuck');
    t.same(await examine(store.read), []);
    await store.transaction((tx) => process.sagas.skipStuck(tx, id));
    await untilSaga('undone');
    t.same(await examine(store.read), []);

    // One that was not skipped is asked for.
    await store.transaction((tx) => tx.updateTable('saga_steps').set({ state: 'undone' }).execute());
    t.match(await examine(store.read), [{ invariant: 'an undone saga holds no resource', subject: id }]);
  },
);
