import { RackstartError } from '../kernel/errors.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { planned, resourcePlan } from '../saga/resource-plan.ts';
import type { Resource } from '../saga/resource-plan.ts';
import { done, wait } from '../saga/step.ts';
import type { Store } from '../store/store.ts';
import { sqliteStore } from '../store/test-stores.ts';
import type { Provider, ServerSpec } from './provider.ts';
import type { ProviderProofSubject, Trouble } from './provider-proof.ts';
import { proveProvider } from './provider-proof.ts';
import { simulatedSpec } from './simulation/simulation.fixture.ts';

/** Each fault of a provider, and the clause that must notice it. */
const faults = {
  'names two things the same': /its names are unique/,
  'makes another plan each time': /a plan is the same/,
  'stands after nothing': /stands after its own step/,
  'makes one more each time': /is not there twice/,
  'finds what is not there': /what was created is found/,
  'cannot delete what is not there': /never created/,
  'forgets what was not recorded': /half created/,
  'cannot delete twice': /deleted again/,
  'deletes nothing': /deleted again/,
  'names nothing': /is named/,
  'lists nothing': /its holdings say so/,
  'removes nothing': /removed from outside/,
  'tells no address': /can be reached/,
  'ignores the signal': /hangs ends/,
  'calls every error passing': /an error says/,
  'calls every error permanent': /an error says/,
  'deletes what is others': /do not touch each other/,
} as const;

type Fault = keyof typeof faults;

sqliteStore('a provider that does all that is asked of it passes', async (t, store, { clock }) => {
  const proven = await proveProvider(shed({ store, clock }));
  t.same(
    proven.filter(({ problems }) => problems.length > 0),
    [],
  );
});

for (const [fault, clause] of Object.entries(faults) as [Fault, RegExp][]) {
  sqliteStore(`a provider that ${fault} is found out`, async (t, store, { clock }) => {
    const proven = await proveProvider(shed({ store, clock }, fault));
    const found = proven.filter(({ problems }) => problems.length > 0).map((one) => one.clause);
    t.ok(
      found.some((one) => clause.test(one)),
      found.join('; '),
    );
  });
}

/** A shed in memory: a box and its label are put there, then a lamp is lit; and one thing about it is wrong. */
function shed({ store, clock }: { store: Store; clock: ManualClock }, fault?: Fault): ProviderProofSubject {
  const is = (one: Fault) => one === fault;
  const things = new Map<string, { kind: string; id: string; litAt: number }>();
  let made = 0;
  let trouble: Trouble | undefined;
  const call = async (signal: AbortSignal) => {
    if (trouble === 'hang') await hang(is('ignores the signal') ? new AbortController().signal : signal);
    if (trouble === undefined) return;
    const transient = is('calls every error passing') || (trouble === 'passing' && !is('calls every error permanent'));
    throw new RackstartError(transient ? 'provider.unavailable' : 'provider.refused', 'the shed is locked');
  };

  const thing = (kind: string): Resource<ServerSpec, { kind: string; id: string }, undefined> => ({
    async create(key, _spec, { signal }) {
      await call(signal);
      const there = things.get(key);
      const fresh = { kind, id: String((made += 1)), litAt: clock.now() + (kind === 'lamp' ? 5_000 : 0) };
      const { id, litAt } = is('makes one more each time') && kind === 'box' ? fresh : (there ?? fresh);
      things.set(key, { kind, id, litAt });
      return litAt > clock.now() ? wait(litAt) : done({ kind, id });
    },
    find(key) {
      const there = things.get(key);
      if (is('finds what is not there')) return Promise.resolve({ kind, id: 'x' });
      return Promise.resolve(there && there.litAt <= clock.now() ? { kind, id: there.id } : undefined);
    },
    async delete(key, ref, { signal }) {
      await call(signal);
      if (is('deletes nothing')) return done();
      if (is('forgets what was not recorded') && ref === undefined) return done();
      if (is('cannot delete what is not there') && ref === undefined && !things.has(key)) throw new Error('not there');
      if (is('cannot delete twice') && ref !== undefined && !things.has(key)) throw new Error('not there');
      if (is('deletes what is others')) things.clear();
      things.delete(key);
      return done();
    },
  });

  let plans = 0;
  const provider: Provider = {
    type: 'shed',
    capabilities: { provesSsh: false, listsHoldings: true, waitsForPeople: false },
    clusters: [{ name: 'c1', region: undefined }],
    plan(spec) {
      const name = is('makes another plan each time') ? `box ${String((plans += 1))}` : 'box';
      const box = planned(name, thing('box'), spec);
      const label = {
        ...planned('label', thing('label'), spec),
        after: is('stands after nothing') ? ['lamp'] : ['box'],
      };
      const twice = is('names two things the same') ? [box] : [];
      return {
        allocate: is('makes another plan each time') ? resourcePlan(box) : { resources: [box, label, ...twice] },
        configure: resourcePlan(),
        activate: resourcePlan(planned('lamp', thing('lamp'), spec)),
        verify: resourcePlan(),
      };
    },
    held(refs) {
      if (is('names nothing')) return [];
      return (Object.values(refs) as { kind: string; id: string }[]).map(({ kind, id }) => ({ resource: kind, id }));
    },
    connection: () => ({ username: 'me', addresses: is('tells no address') ? [] : ['192.0.2.1'], hostKey: null }),
    holdings() {
      const all = is('lists nothing') ? [] : [...things];
      return Promise.resolve(all.map(([key, { kind, id }]) => ({ cluster: 'c1', kind, id, madeFor: { key } })));
    },
    remove({ madeFor }) {
      if ('key' in madeFor && !is('removes nothing')) things.delete(madeFor.key);
      return Promise.resolve();
    },
  };
  let requests = 0;
  return {
    ...{ provider, store, clock },
    request: () => Promise.resolve(simulatedSpec((requests += 1))),
    trouble: (kind) => (trouble = kind),
  };
}

function hang(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error));
  });
}
