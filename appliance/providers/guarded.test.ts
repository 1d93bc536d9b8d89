import { test } from 'tap';

import { MINUTE } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { Guards } from '../kernel/guard.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import { planned, resourcePlan } from '../saga/resource-plan.ts';
import type { Resource } from '../saga/resource-plan.ts';
import { done } from '../saga/step.ts';
import type { StepContext } from '../saga/step.ts';
import { guarded, providerCluster } from './guarded.ts';
import type { Held, Provider, ServerSpec } from './provider.ts';

test('a cluster that does not answer is not called by the next request; the cluster beside it is', async (t) => {
  const { create, remove, cluster, guards } = bench();
  cluster.east = 'dead';
  for (let times = 0; times < providerCluster.failures; times += 1)
    await t.rejects(create('east'), { code: 'provider.unavailable' });
  const calls = [...cluster.calls];
  await t.rejects(create('east'), { code: 'provider.circuit-open', details: { cluster: 'provider:test/east' } });
  await t.rejects(remove('east'), { code: 'provider.circuit-open' });
  t.same(cluster.calls, calls, 'it did not hear of them');
  t.match(await create('west'), { kind: 'done' });
  t.match(guards.list(), [
    { cluster: 'provider:test/east', state: 'open' },
    { cluster: 'provider:test/west', state: 'closed' },
  ]);
});

test('what a cluster refuses, and what it lies about, is an answer', async (t) => {
  const { create, cluster, guards } = bench();
  for (const code of ['provider.refused', 'provider.lied'] as const) {
    cluster.east = code;
    for (let times = 0; times < 2 * providerCluster.failures; times += 1) await t.rejects(create('east'), { code });
  }
  t.match(guards.list(), [{ state: 'closed', failures: 0 }]);
});

test('a cluster that never ends a call holds nobody for ever', async (t) => {
  const { create, find, remove, clock, cluster } = bench();
  cluster.east = 'hangs';
  for (const call of [create, find, remove]) {
    const calling = call('east');
    calling.catch(() => undefined);
    await clock.advance(2 * MINUTE);
    await t.rejects(calling, { code: 'provider.timeout' });
  }
  t.same(cluster.aborted, ['create', 'find', 'delete'], 'each was told to stop');
});

test('a provider without clusters calls nobody, and is left as it is', (t) => {
  const { provider, guards } = bench();
  const without = { ...provider, clusters: [] };
  t.equal(guarded(without, guards), without);
  t.end();
});

function bench() {
  const clock = new ManualClock();
  const guards = new Guards(clock);
  const cluster = { east: 'well', west: 'well', calls: [] as string[], aborted: [] as string[] };
  type Name = 'east' | 'west';

  const answer = (name: Name, operation: string, signal: AbortSignal): Promise<void> => {
    const how = cluster[name];
    cluster.calls.push(`${operation} ${name}`);
    if (how === 'well') return Promise.resolve();
    if (how !== 'hangs')
      return Promise.reject(
        new RackstartError(how === 'dead' ? 'provider.unavailable' : (how as 'provider.lied'), 'as the test wants'),
      );
    return new Promise(() => signal.addEventListener('abort', () => cluster.aborted.push(operation)));
  };
  const thing = (name: Name): Resource<undefined, string, undefined> => ({
    create: (_key, _spec, { signal }) => answer(name, 'create', signal).then(() => done('ref')),
    find: (_key, { signal }) => answer(name, 'find', signal).then(() => undefined),
    delete: (_key, _ref, { signal }) => answer(name, 'delete', signal).then(() => done()),
  });
  const provider: Provider = {
    type: 'test',
    capabilities: { provesSsh: false, listsHoldings: true, waitsForPeople: false },
    clusters: [
      { name: 'east', region: undefined },
      { name: 'west', region: undefined },
    ],
    plan: ({ cluster: name }) => ({
      allocate: resourcePlan(planned('thing', thing(name as Name), undefined)),
      configure: resourcePlan(),
      activate: resourcePlan(),
      verify: resourcePlan(),
    }),
    held: () => [],
    connection: () => ({ username: 'root', addresses: [], hostKey: null }),
    holdings: () => Promise.resolve([]),
    remove: async ({ cluster: name }, { signal }) => answer(name as Name, 'delete', signal),
  };
  const ctx = { clock, signal: new AbortController().signal } as unknown as StepContext<undefined>;
  const wrapped = guarded(provider, guards);
  const resourceIn = (name: Name) => wrapped.plan({ cluster: name } as ServerSpec).allocate.resources[0]!.resource;
  return {
    ...{ clock, guards, cluster, provider },
    create: (name: Name) => resourceIn(name).create('key', undefined, ctx),
    find: (name: Name) => resourceIn(name).find('key', ctx),
    remove: (name: Name): Promise<unknown> => wrapped.remove({ cluster: name } as Held, ctx),
  };
}
