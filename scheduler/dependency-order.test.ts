import { test } from 'tap';

import { dependencyOrder } from './dependency-order.ts';

const cases: readonly {
  title: string;
  dependencies: Record<string, readonly string[]>;
  order?: readonly string[];
  cycle?: readonly string[];
}[] = [
  { title: 'nothing at all', dependencies: {}, order: [] },
  { title: 'what depends on nothing keeps its order', dependencies: { b: [], a: [] }, order: ['b', 'a'] },
  { title: 'a chain told backwards', dependencies: { c: ['b'], b: ['a'], a: [] }, order: ['a', 'b', 'c'] },
  {
    title: 'a diamond',
    dependencies: { top: ['left', 'right'], left: ['base'], right: ['base'], base: [] },
    order: ['base', 'left', 'right', 'top'],
  },
  { title: 'a dependency named twice counts once', dependencies: { a: [], b: ['a', 'a'] }, order: ['a', 'b'] },
  { title: 'what is not among them holds nobody up', dependencies: { a: ['elsewhere'] }, order: ['a'] },
  { title: 'a name that depends on itself', dependencies: { a: ['a'] }, cycle: ['a', 'a'] },
  { title: 'two that depend on each other', dependencies: { a: ['b'], b: ['a'] }, cycle: ['a', 'b', 'a'] },
  {
    title: 'a cycle is named without what only leads into it',
    dependencies: { entry: ['a'], a: ['b'], b: ['c'], c: ['a'], free: [] },
    cycle: ['a', 'b', 'c', 'a'],
  },
  {
    title: 'a cycle is named without what is only behind it',
    dependencies: { free: [], a: ['free', 'b'], b: ['free', 'a'] },
    cycle: ['a', 'b', 'a'],
  },
];

for (const { title, dependencies, order, cycle } of cases) {
  test(title, (t) => {
    const found = dependencyOrder(new Map(Object.entries(dependencies)));
    t.same(found, order === undefined ? { kind: 'cycle', cycle } : { kind: 'order', order });
    t.end();
  });
}

test('a hundred thousand in a chain are ordered without deep recursion', (t) => {
  const length = 100_000;
  const name = (index: number) => `n${String(index)}`;
  const chain = new Map(Array.from({ length }, (_, index) => [name(index), [name(index + 1)]]));
  const found = dependencyOrder(chain);
  t.equal(found.kind, 'order');
  if (found.kind === 'order') t.same([found.order.length, found.order[0]], [length, name(length - 1)]);
  t.end();
});
