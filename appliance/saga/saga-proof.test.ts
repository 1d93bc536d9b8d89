import { t as tap } from 'tap';

import { SECOND } from '../kernel/clock.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { planned, resourcePlan } from './resource-plan.ts';
import type { Resource } from './resource-plan.ts';
import { resourceStep } from './resource-step.ts';
import { saga } from './saga.ts';
import type { SagaInput } from './saga.ts';
import { proveSaga } from './saga-proof.ts';
import type { Effect, ProofRow, ProofSubject } from './saga-proof.ts';
import { done, wait } from './step.ts';
import type { Step } from './step.ts';
import type { TestProcess } from './test-process.ts';

/** What is held outside, by key; and what has been asked to start. */
interface World {
  held: Map<string, string>;
  booting: Set<string>;
  creations: Map<string, number>;
}
interface Deps {
  world: World;
  effect: Effect;
  process: TestProcess;
}
interface Params {
  hostname: string;
}

const thing: Resource<string, { what: string }, Deps> = {
  create: async (key, what, { deps: { world, effect } }) =>
    effect(`create ${what}`, async () => {
      if (!world.held.has(key)) world.creations.set(key, (world.creations.get(key) ?? 0) + 1);
      world.held.set(key, what);
      return done({ what });
    }),
  find: async (key, { deps: { world } }) => {
    const what = world.held.get(key);
    return what === undefined ? undefined : { what };
  },
  delete: async (key, _ref, { deps: { world, effect } }) =>
    effect(`delete ${key.slice(key.indexOf('/') + 1)}`, async () => {
      world.held.delete(key);
      return done();
    }),
};

/** Held at once, ready 3 s later. */
const slowThing: Resource<string, { what: string }, Deps> = {
  ...thing,
  create: async (key, what, ctx) => {
    if (!ctx.deps.world.held.has(key)) await thing.create(key, what, ctx);
    return ctx.clock.now() < ctx.startedAt + 3 * SECOND ? wait(ctx.startedAt + 3 * SECOND) : done({ what });
  },
  find: async () => undefined,
};

const boot: Step<SagaInput<Params, object>, string, Deps> = {
  run: async (_, { key, subject, clock, deps: { world, effect, process } }) => {
    const since = await process.events.position();
    if (world.held.get(key) === 'on') return done('up');
    if (!world.booting.has(subject)) {
      await effect('power on', async () => {
        world.held.set(key, 'powered');
        world.booting.add(subject);
      });
    }
    return wait(clock.now() + 600 * SECOND, { type: 'agent.phoned-home', key: subject, since });
  },
  undo: async (_input, _output, { key, subject, deps: { world, effect } }) => {
    await effect('power off', async () => {
      world.held.delete(key);
      world.booting.delete(subject);
    });
    return done();
  },
};

const example = saga<Params, Deps>('example', 1)
  .step(
    'allocate',
    resourceStep(() => resourcePlan(planned('machine', thing, 'machine'), planned('address', thing, 'address'))),
  )
  .all({
    configure: resourceStep((input: SagaInput<Params, object>) =>
      resourcePlan<Deps>(
        planned(
          'record',
          thing,
          (refs) => `${input.params.hostname} at ${refs.get<{ what: string }>('address').what}`,
          {
            after: ['zone'],
          },
        ),
        planned('zone', slowThing, 'zone'),
      ),
    ),
    activate: boot,
  })
  .step('verify', { run: async () => done(), undo: { noUndo: 'only looks' } })
  .build();

const subject: ProofSubject<Params, Deps, World> = {
  definition: example,
  params: { hostname: 'web' },
  world: () => ({ held: new Map(), booting: new Set(), creations: new Map() }),
  deps: (world, effect, process) => ({ world, effect, process }),
  left: ({ held, creations }) => [
    ...held.values(),
    ...[...creations].filter(([, count]) => count > 1).map(([key]) => `a second ${key}`),
  ],
  elapse: async (world, process) => {
    for (const key of world.booting) {
      const machine = [...world.held].find(([, state]) => state === 'powered');
      if (machine === undefined) continue;
      world.held.set(machine[0], 'on');
      world.booting.delete(key);
      await process.say('agent.phoned-home', key, {
        ...{ attemptId: key, requestId: 'r', machineId: 'm', hostKey: 'k', bootId: 'b' },
        uptime: 1,
      });
    }
  },
};

// Hundreds of sagas: seconds when the machine is idle, more than tap's 30 s when it is not.
tap.setTimeout(120_000);

eachStore('whatever happens to a saga, it ends, and nothing is left over', async (t, store, { clock }) => {
  const rows = await proveSaga(subject, { store, clock });
  for (const { scenario, problems } of rows) t.same(problems, [], scenario);
  // The last few come when the saga has ended already.
  const killed = rows.filter(({ scenario, lives }) => scenario.startsWith('killed') && lives === 2);
  t.ok(killed.length > 30, `${killed.length} kills`);
  const cancelled = rows.filter(({ scenario, end }) => scenario.startsWith('cancelled') && end === 'undone');
  t.ok(cancelled.length > 12, `${cancelled.length} cancellations`);
  t.ok(rows.some(({ scenario }) => scenario === 'fails after create machine'));
  t.comment(`${rows.length} ways`);
});

sqliteStore('the proof finds an undo that forgets what was half done', async (t, store, { clock }) => {
  const forgetful: typeof boot = {
    ...boot,
    undo: async (input, output, ctx) =>
      output === undefined || typeof boot.undo !== 'function' ? done() : boot.undo(input, output, ctx),
  };
  const definition = saga<Params, Deps>('forgetful', 1).step('activate', forgetful).build();
  const rows = await proveSaga({ ...subject, definition }, { store, clock });
  t.same(problemsOf(rows, 'fails after power on'), ['powered is still held']);
  t.same(problemsOf(rows, 'undisturbed'), []);
});

sqliteStore('the proof finds an effect that is not repeatable', async (t, store, { clock }) => {
  const twice: Step<SagaInput<Params, object>, void, Deps> = {
    run: async (_, { deps: { world, effect } }) =>
      effect('buy', async () => {
        world.held.set(`bought ${world.held.size}`, 'bought');
        return done();
      }),
    undo: async (_input, _output, { deps: { world, effect } }) =>
      effect('return', async () => {
        world.held.delete('bought 0');
        return done();
      }),
  };
  const definition = saga<Params, Deps>('careless', 1).step('buy', twice).build();
  const rows = await proveSaga({ ...subject, definition }, { store, clock });
  t.same(problemsOf(rows, 'undisturbed'), []);
  t.same(problemsOf(rows, 'every effect twice'), ['bought is still held']);
  const killed = rows.find(({ scenario }) => scenario.startsWith('killed at after buy'));
  t.same(killed?.problems, ['bought is still held']);
});

function problemsOf(rows: readonly ProofRow[], scenario: string): readonly string[] | undefined {
  return rows.find((row) => row.scenario === scenario)?.problems;
}
