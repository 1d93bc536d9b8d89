import { eachStore } from '../store/test-stores.ts';
import { replaceWaits } from './saga-log.ts';
import { SagaProgress } from './saga-progress.ts';
import { bindSaga } from './saga.ts';
import { begin, twoSteps } from './test-sagas.ts';

eachStore(
  'the position of the log is read for a saga that waits for an event, and for no other',
  async (t, store, { clock }) => {
    const bound = bindSaga(twoSteps().definition, {});
    const process = begin(t, store, clock, [bound]);
    const id = await process.start(twoSteps().definition, { subject: 's', params: { name: '' } });
    await process.settle();
    const lease = { sagaId: id, owner: 'test', epoch: 2 };
    let asked = 0;
    const position = () => {
      asked += 1;
      return process.events.position();
    };
    const read = () => SagaProgress.read(store.read, { ...process.events, position }, bound.definition, lease);
    const on = { type: 'service.activated', key: 'req_1', since: 0 } as const;

    const asleep = await read();
    t.same([asked, asleep.hasWaits('a'), asleep.freshWaits('a', [on])], [0, false, [on]]);

    await store.transaction((tx) => replaceWaits(tx, id, 'a', [{ ...on, since: 3 }]));
    const waiting = await read();
    t.same([asked, waiting.hasWaits('a'), waiting.freshWaits('a', [on])], [1, true, [{ ...on, since: 3 }]]);
  },
);
