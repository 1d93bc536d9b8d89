import { SECOND } from '../kernel/clock.ts';
import type { Reader } from '../store/store.ts';
import { eachStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { serverTimeline } from './server-timeline.ts';
import { viewServer } from './server-view.ts';

const steps = ['allocate', 'configure', 'activate', 'verify'];

eachStore('a release adds its undo to the timeline and takes nothing from it', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  const before = await sagaEntries(store.read, id);
  t.same(
    before.map(({ name }) => name).filter((name) => !name.startsWith('boot ')),
    [...steps.flatMap((step) => [`${step} started`, `${step} done`]), 'completed'],
  );

  await clock.advance(SECOND);
  await pipeline.release(id);
  await pipeline.untilRequest(id, 'deprovisioned');
  const after = await sagaEntries(store.read, id);
  t.same(after.slice(0, before.length), before);
  const undone = after.slice(before.length);
  t.same(
    undone.map(({ name }) => name).filter((name) => name.endsWith('undo started')),
    steps.toReversed().map((step) => `${step} undo started`),
    'newest first',
  );
  t.match(
    undone.find(({ name }) => name === 'deprovisioned'),
    { detail: { reason: /^Released by key_1/ } },
  );
});

eachStore('a step that goes on is told with its tries', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'allocating');
  t.match(await sagaEntries(store.read, id), [
    { name: 'allocate started', detail: { attempt: 1, state: 'waiting', tries: Number } },
  ]);
});

eachStore('nothing goes on in a boot that has fallen silent and was given up', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  pipeline.rack[0]!.atHop = (hop) => (hop === 'grow' ? 'silent' : undefined);
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'rolled-back');
  const { stages } = await serverTimeline(store.read, await viewServer(store.read, id));
  t.equal(stages.at(-1)?.name, 'grow', 'where it stopped');
  t.same(
    stages.filter(({ endedAt }) => endedAt === undefined),
    [],
  );
});

eachStore('each boot is told from its order to its end, and a failure with its reason', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const failure = { code: 'image.digest', reason: 'The image is another one.' };
  pipeline.rack[0]!.atHop = (hop) => (hop === 'image' ? failure : undefined);
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'rolled-back');
  const entries = await sagaEntries(store.read, id);
  t.match(
    entries.find(({ name }) => name === 'boot opened'),
    { detail: { machine: 'm1', generation: Number } },
  );
  t.match(
    entries.find(({ name }) => name === 'boot ended'),
    { detail: { state: 'failed', reason: /image.digest/ } },
  );
  t.match(
    entries.find(({ name }) => name === 'failed'),
    { detail: { attempt: 1, code: 'image.digest', message: String } },
  );
  t.match(
    entries.find(({ name }) => name === 'rolled-back'),
    { detail: { reason: 'The image is another one.' } },
  );
  t.notOk(entries.some(({ name }) => name === 'activate done'));
});

async function sagaEntries(read: Reader, id: string) {
  const { entries } = await serverTimeline(read, await viewServer(read, id));
  return entries.filter(({ source }) => source === 'saga');
}
