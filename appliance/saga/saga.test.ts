import { test } from 'tap';

import { saga } from './saga.ts';
import { done } from './step.ts';
import type { Step } from './step.ts';

const noUndo = { noUndo: 'does nothing' };

test('a plan keeps its steps in order, and those side by side together', (t) => {
  const step: Step<unknown, string, unknown> = { run: async () => done(''), undo: noUndo };
  const { name, version, stages } = saga('test', 3).step('a', step).all({ b: step, c: step }).step('d', step).build();
  t.same([name, version], ['test', 3]);
  t.same(
    stages.map((stage) => stage.map((named) => named.name)),
    [['a'], ['b', 'c'], ['d']],
  );
  t.end();
});

test('two steps of one name are refused', (t) => {
  const step: Step<unknown, string, unknown> = { run: async () => done(''), undo: noUndo };
  const builder = saga('test', 1).step('a', step).all({ b: step, a: step });
  t.throws(() => builder.build(), { message: 'saga test has two steps a' });
  t.end();
});

test('a step that needs what no step before it gives does not compile', (t) => {
  const gives: Step<unknown, { address: string }, unknown> = { run: async () => done({ address: '' }), undo: noUndo };
  const needs: Step<{ done: { gives: { address: string } } }, void, unknown> = {
    run: async () => done(),
    undo: noUndo,
  };
  saga('test', 1).step('gives', gives).step('needs', needs).build();
  // @ts-expect-error -- nothing has been given yet
  saga('test', 1).step('needs', needs).build();
  // @ts-expect-error -- steps side by side don't see each other
  saga('test', 1).all({ gives, needs }).build();
  t.pass('tsc checks these lines');
  t.end();
});
