import { test } from 'tap';

import type { Outcome } from './outcome.ts';
import { isGood, line, summary } from './report.ts';

const good: Outcome = { passed: 3, failures: [], skipped: [] };
const bad: Outcome = {
  passed: 1,
  failures: [{ title: 'adds', diagnostics: 'diff:\n  -1' }],
  skipped: [],
  output: 'oops',
};
const partly: Outcome = { passed: 1, failures: [], skipped: [{ title: 'boots', reason: 'needs root' }] };

test('the last line is alone and counts everything; skipped tests only when there are any', (t) => {
  t.equal(
    summary([part('a', good), part('b', bad)], 1_234)
      .split('\n')
      .at(-1),
    '4 passed, 1 failed',
  );
  t.equal(
    summary([part('a', good), part('c', partly)], 1_234)
      .split('\n')
      .at(-1),
    '4 passed, 0 failed, 1 skipped',
  );
  t.end();
});

test('the summary names every failure with what is known, and every skipped test with its reason', (t) => {
  const text = summary([part('b', bad), part('c', partly)], 1_234);
  t.match(text, 'FAILED b: adds\n  diff:\n    -1\nIt also wrote:\n  oops');
  t.match(text, 'Skipped:\n  c: boots: needs root');
  t.match(text, 'Took 1.2 s');
  t.end();
});

test('the summary shows what a part has to show, before anything else', (t) => {
  const text = summary([part('a', good), part('b', { ...good, report: 'a matrix' })], 1_234);
  t.match(text, /^a matrix\n\nTook/);
  t.end();
});

test('a run is good only when something passed and nothing failed', (t) => {
  t.equal(isGood([part('a', good), part('c', partly)]), true);
  t.equal(isGood([part('a', good), part('b', bad)]), false);
  t.equal(isGood([]), false);
  t.equal(isGood([part('d', { ...partly, passed: 0 })]), false);
  t.match(line(part('b', bad)), /^FAIL {2}b +1 passed, 1 failed {2}0\.5 s$/);
  t.end();
});

function part(title: string, outcome: Outcome) {
  return { title, outcome, ms: 500 };
}
