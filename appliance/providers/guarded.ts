import { MINUTE, SECOND } from '../kernel/clock.ts';
import type { GuardRules, Guards } from '../kernel/guard.ts';
import type { Planned, Resource, ResourcePlan } from '../saga/resource-plan.ts';
import type { Provider } from './provider.ts';

/**
 * Five calls in a row without an answer are no bad luck of one request's. In flight and waiting are calls, of which a request
 * makes about three side by side: a cluster that is slow holds up half of the 100 sagas that a runner works on, and the other
 * half goes on elsewhere.
 */
export const providerCluster: GuardRules = {
  inFlight: 64,
  waiting: 64,
  failures: 5,
  openFor: 30 * SECOND,
  deadline: 2 * MINUTE,
  isFault: ({ code }) => code === 'provider.unavailable',
};

/**
 * The same provider, each of whose calls passes the guard of the cluster that it goes to. What stands in no cluster calls
 * nobody here: bare metal guards its BMCs, rack by rack, and what a person does is not called.
 */
export function guarded(provider: Provider, guards: Guards): Provider {
  if (provider.clusters.length === 0) return provider;
  const guardOf = (cluster: string) => guards.of(`provider:${provider.type}/${cluster}`, providerCluster);

  const guardedResource = (cluster: string, resource: Resource<unknown, unknown, undefined>): typeof resource => {
    const guard = guardOf(cluster);
    return {
      create: (key, spec, ctx) => guard.run((signal) => resource.create(key, spec, { ...ctx, signal }), ctx),
      find: (key, ctx) => guard.run((signal) => resource.find(key, { ...ctx, signal }), ctx),
      delete: (key, ref, ctx) => guard.run((signal) => resource.delete(key, ref, { ...ctx, signal }), ctx),
    };
  };

  return {
    type: provider.type,
    capabilities: provider.capabilities,
    clusters: provider.clusters,

    complaints: (order) => provider.complaints?.(order) ?? [],

    plan(spec) {
      const { cluster } = spec;
      const plan = provider.plan(spec);
      if (cluster === null) return plan;
      const guardedPlan = ({ resources }: ResourcePlan<undefined>): ResourcePlan<undefined> => ({
        resources: resources.map((planned): Planned<undefined> => {
          return { ...planned, resource: guardedResource(cluster, planned.resource) };
        }),
      });
      const { allocate, configure, activate, verify } = plan;
      return {
        allocate: guardedPlan(allocate),
        configure: guardedPlan(configure),
        activate: guardedPlan(activate),
        verify: guardedPlan(verify),
      };
    },

    held: (refs) => provider.held(refs),
    connection: (refs) => provider.connection(refs),

    // All clusters at once, so that no guard of one of them fits; whoever asks asks again later.
    holdings: (ctx) => provider.holdings(ctx),

    remove(held, ctx) {
      if (held.cluster === null) return provider.remove(held, ctx);
      return guardOf(held.cluster).run((signal) => provider.remove(held, { ...ctx, signal }), ctx);
    },
  };
}
