import { eachStore } from '../store/test-stores.ts';
import { attempt, isGivenBack } from './given-back.fixture.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { findRequest } from './request-records.ts';

/** Three ways to the one road on which everything is given back. */
const endings: readonly {
  title: string;
  end: (pipeline: Pipeline, id: string) => Promise<unknown>;
  /** What the request tells from its fourth step on: `verifying`. */
  events: readonly string[];
  last: 'provisioning.rolled-back' | 'service.deprovisioned';
}[] = [
  {
    title: 'a cancellation',
    end: async (pipeline, id) => {
      await pipeline.untilRequest(id, 'verifying');
      await pipeline.release(id);
    },
    events: ['service.release-asked', 'to rolling-back', 'to rolled-back', 'provisioning.rolled-back'],
    last: 'provisioning.rolled-back',
  },
  {
    title: 'a failure',
    end: (pipeline, id) => pipeline.untilRequest(id, 'failed', 'rolling-back', 'rolled-back'),
    events: [
      ...['to failed', 'provisioning.failed', 'alert.raised'],
      ...['to rolling-back', 'to rolled-back', 'provisioning.rolled-back'],
    ],
    last: 'provisioning.rolled-back',
  },
  {
    title: 'a deprovision',
    end: async (pipeline, id) => {
      await pipeline.untilRequest(id, 'completed');
      await pipeline.release(id);
    },
    events: [
      ...['provisioning.step-completed', 'to completed', 'service.activated', 'provisioning.completed'],
      ...['service.release-asked', 'to rolling-back', 'to deprovisioned', 'service.deprovisioned'],
    ],
    last: 'service.deprovisioned',
  },
];

for (const { title, end, events, last } of endings) {
  eachStore(`${title} gives all back on the one road, and has events of its own`, async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    if (title !== 'a deprovision') machine!.atHop = (hop) => (hop === 'phone-home' ? 'silent' : undefined);
    const id = await pipeline.order();
    await end(pipeline, id);
    await pipeline.untilRequest(id, 'rolled-back', 'deprovisioned');
    await pipeline.untilMachine('available');
    const names = await told(pipeline, id);
    t.same(names.slice(names.indexOf('to verifying') + 1), events);
    const commands = machine!.commands.slice(machine!.commands.indexOf('power off'));
    t.same(
      commands,
      ['power off', 'clear boot override', 'boot pxe once and reset', 'power off', 'clear boot override'],
      'off, no way back into the install, wiped, off',
    );
    await isGivenBack(t, pipeline, id, last);
  });
}

eachStore(
  'who is stuck on the road tells people, and ends on it when an operator says so',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    let broken = true;
    machine!.atCommand = (command) => {
      if (command === 'power off' && broken) throw new Error('a defect');
    };
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'completed');
    await pipeline.release(id);
    await pipeline.until('it is stuck', async () => (await told(pipeline, id)).includes('alert.raised'));
    const alert = (await pipeline.events()).find(({ type, key }) => type === 'alert.raised' && key === id);
    t.match(alert, { tenantId: 't1', data: { subject: id, code: 'internal', message: 'a defect' } });
    t.match(await findRequest(store.read, id), { state: 'rolling-back' });
    broken = false;
    const { saga_id } = await attempt(pipeline, id);
    await store.transaction((tx) => pipeline.daemon.process.sagas.retryStuck(tx, saga_id));
    await pipeline.untilRequest(id, 'deprovisioned');
    const last = ['to rolling-back', 'alert.raised', 'to deprovisioned', 'service.deprovisioned'];
    t.same((await told(pipeline, id)).slice(-last.length), last);
  },
);

/** What has been told of a request, a change of its state by where it went. */
async function told(pipeline: Pipeline, id: string): Promise<string[]> {
  const events = (await pipeline.events()).filter(({ key }) => key === id);
  return events.map(({ type, data }) => (type === 'request.state-changed' ? `to ${data.to}` : type));
}
