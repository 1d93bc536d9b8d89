import { test } from 'tap';

import { resourcePlan } from '../saga/resource-plan.ts';
import type { Cluster, Provider } from './provider.ts';
import { Providers } from './providers.ts';

test('an order that names no provider is made of bare metal, which has no clusters', async (t) => {
  const providers = new Providers(provider('bare-metal'), provider('simulation', { name: 'a', region: 'north' }));
  t.same(providers.choose({ region: 'north' }), { provider: 'bare-metal', cluster: null });
  t.throws(() => providers.choose({ cluster: 'a', region: 'north' }), complaint('/cluster'));
});

test('of the clusters of a provider, the one named is taken, else the first in the region', async (t) => {
  const clusters = [
    { name: 'far', region: 'south' },
    { name: 'near', region: 'north' },
    { name: 'anywhere', region: undefined },
  ];
  const providers = new Providers(provider('simulation', ...clusters));
  const choose = (cluster?: string, region = 'north') =>
    providers.choose({ provider: 'simulation', region, ...(cluster === undefined ? {} : { cluster }) });
  t.same(choose(), { provider: 'simulation', cluster: 'near' });
  t.same(choose('anywhere'), { provider: 'simulation', cluster: 'anywhere' });
  t.same(choose(undefined, 'west'), { provider: 'simulation', cluster: 'anywhere' });
  t.throws(() => choose('far'), complaint('/cluster'), 'that one stands in another region');
  t.throws(() => choose('none'), complaint('/cluster'));
});

test('an unknown provider is a complaint about that field', async (t) => {
  t.throws(
    () => new Providers(provider('bare-metal')).choose({ provider: 'x', region: 'north' }),
    complaint('/provider'),
  );
});

test('a request of a provider that is not configured any more is not taken for another', async (t) => {
  const providers = new Providers(provider('bare-metal'));
  t.throws(() => providers.of({ provider: 'simulation' }), { code: 'config.invalid' });
  t.equal(providers.of({}).type, 'bare-metal', 'one that was admitted before there was a choice');
});

function complaint(field: string) {
  return { code: 'request.invalid', fields: [{ field }] };
}

function provider(type: string, ...clusters: readonly Cluster[]): Provider {
  const nothing = resourcePlan<undefined>();
  return {
    type,
    capabilities: { provesSsh: false, listsHoldings: true, waitsForPeople: false },
    clusters,
    plan: () => ({ allocate: nothing, configure: nothing, activate: nothing, verify: nothing }),
    held: () => [],
    connection: () => ({ username: 'root', addresses: [], hostKey: null }),
    holdings: () => Promise.resolve([]),
    remove: () => Promise.resolve(),
  };
}
