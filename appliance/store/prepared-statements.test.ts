import { test } from 'tap';

import { PreparedStatements } from './prepared-statements.ts';

test('a statement that comes again gets a name of its own, and keeps it', (t) => {
  const statements = new PreparedStatements();
  const come = (text: string, times: number) => Array.from({ length: times }, () => statements.nameOf(text)).at(-1);
  t.equal(come('once', 1), undefined);
  const [first, second] = [come('first', 20), come('second', 20)];
  t.type(first, 'string');
  t.not(second, first);
  t.equal(come('first', 1), first);
  t.end();
});

test('a connection prepares so many statements, however many there are', (t) => {
  const statements = new PreparedStatements();
  const names = new Set<string | undefined>();
  for (let length = 0; length < 2_000; length += 1) {
    for (let time = 0; time < 20; time += 1) names.add(statements.nameOf(`select ${'$,'.repeat(length)}`));
  }
  t.ok(names.delete(undefined));
  t.equal(names.size, 400);
  t.equal(statements.nameOf('select '), 's0', 'those that have one keep it');
  t.end();
});

test('lists that are as long as they happen to be take no names from what comes again', (t) => {
  const statements = new PreparedStatements();
  const names = Array.from({ length: 5_000 }, (_, length) => statements.nameOf(`in (${String(length)})`));
  t.ok(names.every((name) => name === undefined));
  t.end();
});
