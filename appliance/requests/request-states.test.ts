import { test } from 'tap';

import { clockedStates, inFlightStates, mayMove, requestStates, statesThat } from './request-states.ts';
import type { RequestState } from './request-states.ts';

const states = Object.keys(requestStates) as RequestState[];
const steps = ['allocating', 'configuring', 'activating', 'verifying'];

test('a request takes a place in flight in the four steps, and nowhere else', (t) => {
  t.same(inFlightStates, steps);
  t.end();
});

test('the clock for progress runs in the four steps and while a request is rolled back', (t) => {
  t.same(clockedStates, [...steps, 'rolling-back']);
  t.end();
});

test('quota is held in every state but those that a request ends in', (t) => {
  const held = statesThat(({ holdsQuota }) => holdsQuota);
  t.same(
    states.filter((state) => !held.includes(state)),
    ['rolled-back', 'deprovisioned'],
  );
  for (const state of states) t.equal(requestStates[state].next.length === 0, !held.includes(state), state);
  t.end();
});

test('whatever state a request is in, it can still be released', (t) => {
  for (const state of states) t.ok(reachable(state).has('rolled-back') || !requestStates[state].holdsQuota, state);
  t.end();
});

test('a prerequisite that is met can be lost later, one that is lost is lost for good', (t) => {
  for (const state of states) {
    if (requestStates[state].asPrerequisite !== 'lost') continue;
    for (const next of reachable(state)) t.equal(requestStates[next].asPrerequisite, 'lost', `${state} to ${next}`);
  }
  t.ok(mayMove('completed', 'rolling-back'));
  t.end();
});

function reachable(from: RequestState): Set<RequestState> {
  const found = new Set([from]);
  for (const state of found) requestStates[state].next.forEach((next) => found.add(next));
  return found;
}
