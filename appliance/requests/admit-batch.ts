import { dependencyOrder } from '../../scheduler/dependency-order.ts';
import type { FieldError } from '../kernel/errors.ts';
import { hasCode, RackstartError } from '../kernel/errors.ts';
import type { AdmitDeps, Admission } from './admit.ts';
import { writeOrder } from './admit.ts';
import type { ServerOrder } from './server-order.ts';

/** An order with a name that others of its batch may depend on; no id looks like one. */
export interface NamedOrder extends ServerOrder {
  readonly name: string;
}

/**
 * Takes several orders in, or refuses them all: one transaction. `dependsOn` may name orders of the batch and ids of servers
 * there already are. Returns the requests' ids, in the order of the batch.
 *
 * Errors: those of `admitServer`, each field within its order (`/servers/2/image`); `request.invalid` for a name that comes
 * twice and for orders that depend on each other, with the cycle named: `a → b → a`.
 */
export async function admitServers(
  deps: AdmitDeps,
  orders: readonly NamedOrder[],
  admission: Omit<Admission, 'idempotencyKey'>,
): Promise<string[]> {
  const order = sorted(orders);
  return deps.store.transaction(async (tx) => {
    const ids = new Map<string, string>();
    for (const { name, dependsOn = [], ...rest } of order) {
      const index = orders.findIndex((one) => one.name === name);
      const prerequisites = dependsOn.map((one) => ids.get(one) ?? one);
      const id = await within(`/servers/${String(index)}`, () =>
        writeOrder(tx, deps, { ...rest, dependsOn: prerequisites }, admission),
      );
      ids.set(name, id);
    }
    return orders.map(({ name }) => ids.get(name) ?? '');
  });
}

/** What others depend on first. */
function sorted(orders: readonly NamedOrder[]): NamedOrder[] {
  const names = orders.map(({ name }) => name);
  const twice = names.flatMap((name, index): FieldError[] => {
    if (names.indexOf(name) === index) return [];
    return [{ field: `/servers/${String(index)}/name`, message: `Another order of this batch is named ${name}.` }];
  });
  if (twice.length > 0) throw new RackstartError('request.invalid', 'Names of a batch are unique.', { fields: twice });
  const found = dependencyOrder(new Map(orders.map(({ name, dependsOn = [] }) => [name, dependsOn])));
  if (found.kind === 'order') return found.order.flatMap((name) => orders.find((order) => order.name === name) ?? []);
  const cycle = found.cycle.join(' → ');
  const fields = found.cycle.slice(1).map((name) => {
    return { field: `/servers/${String(names.indexOf(name))}/dependsOn`, message: `This is part of ${cycle}.` };
  });
  throw new RackstartError('request.invalid', `These orders depend on each other: ${cycle}.`, {
    fields,
    details: { cycle: found.cycle },
  });
}

async function within<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!hasCode(error, 'request.invalid')) throw error;
    const fields = error.fields.map(({ field, message }) => ({ field: `${path}${field}`, message }));
    throw new RackstartError(error.code, error.message, { fields, cause: error });
  }
}
