import { RackstartError } from '../kernel/errors.ts';
import { eachStore } from '../store/test-stores.ts';
import { attempt } from './given-back.fixture.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { viewServer } from './server-view.ts';
import { stepsInProgress } from './step-progress.ts';

eachStore('steps of an order whose turn has not come are pending', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { fairness: { inAll: 0 } });
  const id = await pipeline.order();
  await pipeline.settle();
  t.match(stepsInProgress((await viewServer(store.read, id)).attempts[0]!.steps), [
    { name: 'allocate', status: 'pending', attempts: 0, startedAt: null, endedAt: null, reason: null },
    { name: 'configure', status: 'pending' },
    { name: 'activate', status: 'pending' },
    { name: 'verify', status: 'pending' },
  ]);
});

eachStore('a step keeps its attempts, times and reason when it is rolled back', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const steps = async () => stepsInProgress((await viewServer(store.read, id)).attempts[0]!.steps);
  pipeline.rack[0]!.atCommand = (command) => {
    if (command === 'boot pxe once and reset') throw new RackstartError('bmc.unreachable', 'It is down.');
  };
  const begun = clock.now();
  const id = await pipeline.order();
  await pipeline.settle();
  const isDown = { code: 'bmc.unreachable', message: 'It is down.', step: 'activate' };
  t.match(await steps(), [
    { name: 'allocate', status: 'completed', attempts: 1, startedAt: begun, endedAt: begun, reason: null },
    { name: 'configure', status: 'completed', attempts: 1 },
    { name: 'activate', status: 'running', attempts: 2, startedAt: begun, endedAt: null, reason: isDown },
    { name: 'verify', status: 'pending' },
  ]);
  await pipeline.untilRequest(id, 'rolled-back');
  t.match(await steps(), [
    { name: 'allocate', status: 'rolled-back', attempts: 1, startedAt: begun, endedAt: begun, reason: null },
    { name: 'configure', status: 'rolled-back', attempts: 1, reason: null },
    { name: 'activate', status: 'rolled-back', attempts: 4, startedAt: begun, endedAt: begun + 35_000, reason: isDown },
    { name: 'verify', status: 'pending', attempts: 0 },
  ]);
});

eachStore('a step that cannot be rolled back tells why', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  pipeline.rack[0]!.atHop = (hop) => (hop === 'image' ? { code: 'image.digest', reason: 'no' } : undefined);
  pipeline.rack[0]!.atCommand = (command) => {
    if (command === 'power off') throw new Error('a defect');
  };
  const id = await pipeline.order();
  await pipeline.until('it is stuck', async () => {
    const { saga_id } = await attempt(pipeline, id);
    const saga = store.read.selectFrom('sagas').select('state').where('id', '=', saga_id);
    return (await saga.executeTakeFirstOrThrow()).state === 'stuck';
  });
  const [allocate, , activate] = stepsInProgress((await viewServer(store.read, id)).attempts[0]!.steps);
  t.match(allocate, { status: 'completed', reason: null });
  t.match(activate, { status: 'stuck', attempts: 1, reason: { code: 'internal', message: 'a defect' } });
});
