import { test } from 'tap';

import { complaint, floors, isTest, roomOf } from './rooms.ts';
import { importsOf, projectFiles, read } from './sources.ts';

const code = projectFiles().filter((file) => file.endsWith('.ts'));
const imports = new Map(code.map((file) => [file, importsOf(file)]));

test('every file is in a room of the picture', (t) => {
  t.ok(code.length > 100, 'the files were found');
  t.same(
    code.filter((file) => roomOf(file) === undefined),
    [],
  );
  t.end();
});

test('imports go down, types too', (t) => {
  const wrong = code.flatMap((file) => imports.get(file)!.flatMap((imported) => complaint(file, imported) ?? []));
  t.same(wrong, []);
  t.end();
});

test('no file imports itself, by whatever way round', (t) => {
  t.same(circle(imports), undefined);
  t.end();
});

test('every import is of a file that is there', (t) => {
  const known = new Set(code);
  const missing = code.flatMap((file) =>
    imports
      .get(file)!
      .filter((name) => !known.has(name))
      .map((to) => [file, to]),
  );
  t.same(missing, []);
  t.end();
});

test('an upward import, a neighbour and a door that is not there are complained of', (t) => {
  t.match(complaint('appliance/kernel/ids.ts', 'appliance/store/store.ts'), /imports go down/);
  t.match(complaint('pxe/boot-session.ts', 'appliance/machines/boot-order.ts'), /imports go down/);
  t.match(complaint('appliance/tenants/quota.ts', 'appliance/saga/saga.ts'), /imports go down/);
  t.match(complaint('scheduler/placement.ts', 'appliance/kernel/clock.ts'), /ids alone/);
  t.match(complaint('lab/demo/main.ts', 'appliance/requests/admit.ts'), /through sockets/);
  t.match(complaint('appliance/machines/enrol.ts', 'lab/sim/bmc-server.ts'), /only tests/);
  t.match(complaint('appliance/machines/bmc/bmc.test.ts', 'lab/site/site.ts'), /only peers/);
  t.match(complaint('appliance/requests/admit.ts', 'appliance/store/test-stores.ts'), /test material/);
  t.match(complaint('appliance/cellar/wine.ts', 'appliance/kernel/ids.ts'), /no room/);
  t.equal(complaint('appliance/api/api.ts', 'appliance/requests/admit.ts'), undefined);
  t.equal(complaint('appliance/machines/bmc/bmc.test.ts', 'lab/sim/bmc-server.ts'), undefined);
  t.end();
});

test('imports are found in all their forms, and a circle in all its length', (t) => {
  const text = `import type { A } from './a.ts';
    export * from '../b.ts';
    import 'node:fs';
    const c = await import('./c.ts');
    type D = import('./d/d.ts').D;`;
  t.same(importsOf('room/file.ts', text), ['room/a.ts', 'b.ts', 'room/c.ts', 'room/d/d.ts']);
  const round = new Map([
    ['a', ['b']],
    ['b', ['c']],
    ['c', ['b']],
  ]);
  t.same(circle(round), ['b', 'c', 'b']);
  t.end();
});

test('what is tested is not test material, and every room of the picture is in use', (t) => {
  t.ok(isTest('appliance/store/test-stores.ts') && isTest('pxe/http/ask.fixture.ts'));
  t.notOk(isTest('lab/test/postgres.ts') || isTest('appliance/kernel/clock.ts'));
  const used = new Set(code.map(roomOf));
  t.same(
    floors.flat().filter((room) => !used.has(room)),
    [],
  );
  t.end();
});

test('ARCHITECTURE.md shows the floors as they are checked', (t) => {
  const picture = /<!-- floors -->\n```text\n([^`]*)```/.exec(read('ARCHITECTURE.md'))?.[1];
  const shown = floors.map((rooms) => rooms.join('  ')).join('\n');
  t.equal(picture, `${shown}\n`);
  t.end();
});

/** A way from a file back to itself; undefined when there is none. */
function circle(edges: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const clear = new Set<string>();
  const walk = (file: string, way: readonly string[]): string[] | undefined => {
    if (way.includes(file)) return [...way.slice(way.indexOf(file)), file];
    if (clear.has(file)) return undefined;
    for (const next of edges.get(file) ?? []) {
      const found = walk(next, [...way, file]);
      if (found !== undefined) return found;
    }
    clear.add(file);
    return undefined;
  };
  for (const file of edges.keys()) {
    const found = walk(file, []);
    if (found !== undefined) return found;
  }
  return undefined;
}
