import type { Tx } from '../store/store.ts';
import { eachStore } from '../store/test-stores.ts';
import { RackstartError } from '../kernel/errors.ts';
import { planned, resourcePlan } from './resource-plan.ts';
import type { Resource } from './resource-plan.ts';
import { resourceStep } from './resource-step.ts';
import { bindSaga, saga } from './saga.ts';
import type { SagaListener } from './saga.ts';
import { done, wait } from './step.ts';
import { begin, cancelled, row, steps, twoSteps } from './test-sagas.ts';
import type { Params } from './test-sagas.ts';

// What a saga writes costs a turn of the disk each time: what may be written together is.

type Thing = Resource<unknown, string, unknown>;

eachStore(
  'a step begins with the end of the one before, and the saga ends with the last',
  async (t, store, { clock }) => {
    const told: { what: string; tx: Tx }[] = [];
    const tell = (what: string) => async (tx: Tx) => void told.push({ what, tx });
    const { definition } = twoSteps();
    const listener: Partial<SagaListener<Params>> = {
      stepStarted: (tx, _, step) => tell(`${step} started`)(tx),
      stepDone: (tx, _, { name }) => tell(`${name} done`)(tx),
      completed: tell('completed'),
    };
    const process = begin(t, store, clock, [bindSaga(definition, {}, listener)]);
    const id = await process.start(definition, { subject: 's', params: { name: '' } });
    await process.settle();
    const together = [...Map.groupBy(told, ({ tx }) => tx).values()].map((one) => one.map(({ what }) => what));
    t.same(together, [['a started'], ['a done', 'b started'], ['b done', 'completed']]);
    t.match(await row(store, id), { state: 'completed', owner: null, wake_at: null });
  },
);

eachStore('a saga that was told to turn back begins no step with the end of another', async (t, store, { clock }) => {
  const { definition, a } = twoSteps();
  const turning = saga<Params, unknown>('test', 1)
    .step('a', {
      ...a,
      run: async (_, ctx) => {
        await store.transaction((tx) => process.sagas.turnBack(tx, ctx.sagaId, cancelled));
        return done('A');
      },
    })
    .step('b', a)
    .build();
  const process = begin(t, store, clock, [bindSaga(turning, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.settle();
  t.match(await row(store, id), { state: 'undone' });
  t.same(
    (await steps(store, id)).map(({ name }) => name),
    ['a'],
  );
});

eachStore(
  'the intents of a step are written with its start, and nobody looks for what nobody made',
  async (t, store, { clock }) => {
    const log: string[] = [];
    let written: Promise<unknown[]> | undefined;
    const thing: Thing = {
      ...logging(log),
      async create(...args) {
        written ??= store.read.selectFrom('resources').select(['name', 'state']).orderBy('name').execute();
        await written;
        return logging(log).create(...args);
      },
    };
    const definition = saga<Params, unknown>('test', 1)
      .step(
        'make',
        resourceStep(() => resourcePlan(planned('disk', thing, ''), planned('address', thing, ''))),
      )
      .build();
    const process = begin(t, store, clock, [bindSaga(definition, {})]);
    await process.start(definition, { subject: 's', params: { name: '' } });
    await process.settle();
    t.same(await written, [
      { name: 'address', state: 'intended' },
      { name: 'disk', state: 'intended' },
    ]);
    t.same(log.toSorted(), ['create address', 'create disk']);
  },
);

eachStore('whoever takes over a step that had begun looks for what may have been made', async (t, store, { clock }) => {
  const log: string[] = [];
  const definition = saga<Params, unknown>('test', 1)
    .step(
      'make',
      resourceStep(() => resourcePlan(planned('disk', logging(log), ''))),
    )
    .build();
  const dying = begin(t, store, clock, [
    bindSaga(definition, {}, { stepStarted: async (tx) => tx.afterCommit(() => dying.kill()) }),
  ]);
  const id = await dying.start(definition, { subject: 's', params: { name: '' } });
  await dying.settle();
  t.same(log, []);
  const heir = begin(t, store, clock, [bindSaga(definition, {})], 'heir', { soleOwner: true });
  await heir.settle();
  t.same(log, ['find disk', 'create disk']);
  t.match(await row(store, id), { state: 'completed' });
});

eachStore(
  'what was made is written also when its neighbour waits, fails, or is told to stop',
  async (t, store, { clock }) => {
    const refusal = new RackstartError('provider.refused', 'no');
    const ends = {
      waits: async () => wait(clock.now() + 1_000_000),
      fails: () => Promise.reject(refusal),
      stops: async (sagaId: string) => {
        await store.transaction((tx) => process.sagas.turnBack(tx, sagaId, cancelled));
        return wait(clock.now() + 1_000_000);
      },
    };
    const asked = new Map(Object.keys(ends).map((name) => [name, Promise.withResolvers<undefined>()]));
    const definition = saga<Params, unknown>('test', 1)
      .step(
        'make',
        resourceStep(({ params: { name } }: { params: Params }) => {
          const thing = logging([]);
          const last: Thing = {
            ...thing,
            create(_, __, ctx) {
              asked.get(name)?.resolve(undefined);
              return ends[name as keyof typeof ends](ctx.sagaId);
            },
          };
          // Made when the last intent is written, with which it could have been recorded.
          const late: Thing = {
            ...thing,
            create: (...args) => asked.get(name)!.promise.then(() => thing.create(...args)),
          };
          return resourcePlan(
            planned('disk', thing, ''),
            planned('server', last, '', { after: ['disk'] }),
            planned('address', late, ''),
          );
        }),
      )
      .build();
    const process = begin(t, store, clock, [bindSaga(definition, {})]);
    for (const name of Object.keys(ends)) {
      const id = await process.start(definition, { subject: 's', params: { name } });
      await process.settle();
      const made = await store.read
        .selectFrom('resources')
        .select(['name', 'ref'])
        .where('saga_id', '=', id)
        .where('name', '!=', 'server')
        .orderBy('name')
        .execute();
      t.same(
        made,
        [
          { name: 'address', ref: '"ref of address"' },
          { name: 'disk', ref: '"ref of disk"' },
        ],
        name,
      );
    }
  },
);

eachStore('a plan that cannot be made turns the saga back, and says why', async (t, store, { clock }) => {
  const { a } = twoSteps();
  const definition = saga<Params, unknown>('test', 1)
    .step('a', a)
    .step(
      'b',
      resourceStep(() => {
        throw new RackstartError('config.invalid', 'no such cluster');
      }),
    )
    .build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.settle();
  t.match(JSON.parse((await row(store, id)).reason ?? '{}'), { code: 'config.invalid', step: 'b' });
});

/** Things that are there at once. */
function logging(log: string[]): Thing {
  const nameOf = (key: string) => key.split('/')[1] ?? '';
  return {
    create: async (key) => {
      log.push(`create ${nameOf(key)}`);
      return done(`ref of ${nameOf(key)}`);
    },
    find: async (key) => void log.push(`find ${nameOf(key)}`),
    delete: async () => done(),
  };
}
