import { test } from 'tap';

import { SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { eachStore } from '../store/test-stores.ts';
import { planned, resourcePlan } from './resource-plan.ts';
import type { Refs, Resource } from './resource-plan.ts';
import { resourceStep } from './resource-step.ts';
import { bindSaga, saga } from './saga.ts';
import { done, wait } from './step.ts';
import { begin, cancelled, row, steps } from './test-sagas.ts';
import type { Params } from './test-sagas.ts';

type Thing = Resource<unknown, string, unknown>;

test('a plan whose resources stand after each other is refused', (t) => {
  const thing = recording([]);
  const a = planned('a', thing, '', { after: ['b'] });
  const b = planned('b', thing, '', { after: ['c'] });
  const c = planned('c', thing, '', { after: ['a'] });
  const free = planned('free', thing, '');
  t.throws(() => resourcePlan(free, a, b, c), { message: 'these resources stand after each other: a, b, c' });
  t.throws(() => resourcePlan(a), { message: 'a stands after b, which is not planned' });
  t.throws(() => resourcePlan(free, free), { message: 'the plan has two resources free' });
  const sorted = resourcePlan(planned('a', thing, '', { after: ['b'] }), planned('b', thing, ''));
  t.same(
    sorted.resources.map(({ name }) => name),
    ['b', 'a'],
  );
  t.end();
});

eachStore('resources are made behind those they stand after, and deleted before them', async (t, store, { clock }) => {
  const log: string[] = [];
  const thing = recording(log);
  const plan = resourcePlan(
    planned('server', thing, (refs: Refs) => [refs.get<string>('disk'), refs.get('address')], {
      after: ['disk', 'address'],
    }),
    planned('disk', thing, 'big'),
    planned('address', thing, (refs: Refs) => refs.get('machine')),
  );
  const definition = saga<Params, unknown>('test', 1)
    .step(
      'allocate',
      resourceStep(() => resourcePlan(planned('machine', thing, 'm'))),
    )
    .step(
      'configure',
      resourceStep(() => plan),
    )
    .build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.settle();
  const [machine, ...rest] = log.splice(0);
  t.equal(machine, 'create machine "m"');
  t.equal(rest.pop(), 'create server ["ref of disk","ref of address"]');
  t.same(rest.sort(), ['create address "ref of machine"', 'create disk "big"']);
  const outputs = (await steps(store, id)).map(({ output }) => JSON.parse(output!) as unknown);
  t.same(outputs[0], { machine: 'ref of machine' });
  t.same(outputs[1], { disk: 'ref of disk', address: 'ref of address', server: 'ref of server' });

  await store.transaction((tx) => process.sagas.turnBack(tx, id, cancelled));
  await process.settle();
  t.equal(log.shift(), 'delete server with ref of server');
  t.equal(log.pop(), 'delete machine with ref of machine');
  t.same(log.sort(), ['delete address with ref of address', 'delete disk with ref of disk']);
  t.match(await row(store, id), { state: 'undone' });
});

eachStore('a resource does not see a neighbour that may or may not be there yet', async (t, store, { clock }) => {
  const thing = recording([]);
  const definition = saga<Params, unknown>('test', 1)
    .step(
      'a',
      resourceStep(() =>
        resourcePlan(
          planned('x', thing, ''),
          planned('y', thing, (refs: Refs) => refs.get('x')),
        ),
      ),
    )
    .build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.settle();
  t.match(JSON.parse((await row(store, id)).reason!), { message: 'the plan has no resource x at this point' });
});

eachStore('independent resources wait side by side, and all their waits are one', async (t, store, { clock }) => {
  const start = clock.now();
  const log: string[] = [];
  const ready = (seconds: number): Thing => ({
    ...recording(log),
    create: async (key) => {
      log.push(`ask ${key.split('/')[1]!} at ${(clock.now() - start) / SECOND}`);
      const at = start + seconds * SECOND;
      return clock.now() < at ? wait(at, { type: 'alert.raised', key, since: 0 }) : done(key);
    },
  });
  const definition = saga<Params, unknown>('test', 1)
    .step(
      'a',
      resourceStep(() =>
        resourcePlan(
          planned('quick', ready(2), ''),
          planned('slow', ready(7), ''),
          planned('last', ready(0), '', { after: ['quick'] }),
        ),
      ),
    )
    .build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.settle();
  const waits = await store.read.selectFrom('saga_waits').select('key').orderBy('key').execute();
  t.same(
    waits.map(({ key }) => key),
    [`${id}/quick`, `${id}/slow`],
  );
  await process.runUntil(async () => (await row(store, id)).state === 'completed');
  t.same(log, ['ask quick at 0', 'ask slow at 0', 'ask quick at 2', 'ask slow at 2', 'ask last at 2', 'ask slow at 7']);
});

eachStore('what was made before an error is found, not made again', async (t, store, { clock }) => {
  const log: string[] = [];
  let made = false;
  const shaky: Thing = {
    ...recording(log),
    create: async () => {
      log.push('create');
      made = true;
      throw new RackstartError('bmc.unreachable', 'the answer got lost');
    },
    find: async (key) => {
      log.push('find');
      return made ? key : undefined;
    },
  };
  const definition = saga<Params, unknown>('test', 1)
    .step(
      'a',
      resourceStep(() => resourcePlan(planned('x', shaky, ''))),
    )
    .build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.runUntil(async () => (await row(store, id)).state === 'completed');
  t.same(log, ['create', 'find']);
  t.match(await store.read.selectFrom('resources').selectAll().execute(), [
    { name: 'x', key: `${id}/x`, state: 'created', ref: JSON.stringify(`${id}/x`) },
  ]);
});

eachStore('only what was intended is deleted, and what was half made without its ref', async (t, store, { clock }) => {
  const log: string[] = [];
  const failing: Thing = { ...recording(log), create: () => Promise.reject(new Error('no')) };
  const definition = saga<Params, unknown>('test', 1)
    .step(
      'a',
      resourceStep(() =>
        resourcePlan(planned('half', failing, ''), planned('never', recording(log), '', { after: ['half'] })),
      ),
    )
    .build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.settle();
  t.same(log, ['delete half with undefined']);
  t.match(await row(store, id), { state: 'undone' });
  t.match(await store.read.selectFrom('resources').selectAll().execute(), [{ name: 'half', state: 'deleted' }]);
});

eachStore(
  'an effect that the plan no longer names makes the saga stuck instead of being forgotten',
  async (t, store, c) => {
    const thing = recording([]);
    let name = 'before';
    const definition = saga<Params, unknown>('test', 1)
      .step(
        'a',
        resourceStep(() => resourcePlan(planned(name, thing, ''))),
      )
      .build();
    const process = begin(t, store, c.clock, [bindSaga(definition, {})]);
    const id = await process.start(definition, { subject: 's', params: { name: '' } });
    await process.settle();
    name = 'after';
    await store.transaction((tx) => process.sagas.turnBack(tx, id, cancelled));
    await process.runUntil(async () => (await row(store, id)).state === 'stuck');
    t.match(await steps(store, id), [{ state: 'stuck', error: /no plan for the resource before/ }]);
  },
);

/** A resource that is there at once. */
function recording(log: string[]): Thing {
  const nameOf = (key: string) => key.split('/')[1] ?? '';
  return {
    create: async (key, spec) => {
      log.push(`create ${nameOf(key)} ${JSON.stringify(spec)}`);
      return done(`ref of ${nameOf(key)}`);
    },
    find: async () => undefined,
    delete: async (key, ref) => done(void log.push(`delete ${nameOf(key)} with ${ref ?? 'undefined'}`)),
  };
}
