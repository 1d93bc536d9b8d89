import type { Provider } from '../../appliance/providers/provider.ts';
import type { Planned, Resource, ResourcePlan } from '../../appliance/saga/resource-plan.ts';
import type { Effect } from './effects.ts';

type AnyResource = Resource<unknown, unknown, undefined>;

/** A provider whose every resource is created and deleted through `effect`. */
export function withEffects(provider: Provider, effect: Effect): Provider {
  const wrap = ({ name, resource, ...rest }: Planned<undefined>): Planned<undefined> => ({
    ...{ ...rest, name },
    resource: {
      create: (key, spec, ctx) =>
        effect(`create ${name}`, () => resource.create(key, spec, ctx), {
          signal: ctx.signal,
          lie: provider.type === 'bare-metal' ? undefined : () => createAndLose(resource, key, spec, ctx),
        }),
      find: (key, ctx) => resource.find(key, ctx),
      delete: (key, ref, ctx) => effect(`delete ${name}`, () => resource.delete(key, ref, ctx), { signal: ctx.signal }),
    },
  });
  const all = ({ resources }: ResourcePlan<undefined>) => ({ resources: resources.map(wrap) });
  return Object.assign(Object.create(provider) as Provider, {
    plan: (...args: Parameters<Provider['plan']>) => {
      const { allocate, configure, activate, verify } = provider.plan(...args);
      return { allocate: all(allocate), configure: all(configure), activate: all(activate), verify: all(verify) };
    },
  });
}

/** It says that it made something, and names it; and there is nothing. */
async function createAndLose(
  resource: AnyResource,
  ...[key, spec, ctx]: Parameters<AnyResource['create']>
): ReturnType<AnyResource['create']> {
  const created = await resource.create(key, spec, ctx);
  if (created.kind === 'done') await resource.delete(key, created.output, ctx);
  return created;
}
