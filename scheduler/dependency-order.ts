export type DependencyOrder =
  | { readonly kind: 'order'; readonly order: readonly string[] }
  /** The names of a cycle, the first one again at its end: `a`, `b`, `a`. */
  | { readonly kind: 'cycle'; readonly cycle: readonly string[] };

/**
 * The names in an order in which each comes behind all that it depends on; what may come in any order keeps that of the
 * map (Kahn, "Topological sorting of large networks", 1962). A name that the map does not have holds nobody up.
 */
export function dependencyOrder(dependencies: ReadonlyMap<string, readonly string[]>): DependencyOrder {
  const missing = new Map<string, Set<string>>();
  const dependents = new Map<string, string[]>();
  for (const [name, prerequisites] of dependencies) {
    const known = new Set(prerequisites.filter((prerequisite) => dependencies.has(prerequisite)));
    missing.set(name, known);
    for (const prerequisite of known) {
      const others = dependents.get(prerequisite);
      if (others === undefined) dependents.set(prerequisite, [name]);
      else others.push(name);
    }
  }
  const order = [...missing].filter(([, prerequisites]) => prerequisites.size === 0).map(([name]) => name);
  for (const name of order) {
    missing.delete(name);
    for (const dependent of dependents.get(name) ?? []) {
      const left = missing.get(dependent);
      left?.delete(name);
      if (left?.size === 0) order.push(dependent);
    }
  }
  return missing.size === 0 ? { kind: 'order', order } : { kind: 'cycle', cycle: cycleIn(missing) };
}

/** Each of what is left misses another of them: who goes from one to the next comes where he was before. */
function cycleIn(missing: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const path: string[] = [];
  let [name] = missing.keys();
  while (name !== undefined && !path.includes(name)) {
    path.push(name);
    [name] = missing.get(name) ?? [];
  }
  const cycle = path.slice(path.indexOf(name ?? ''));
  return [...cycle, ...cycle.slice(0, 1)];
}
