import { test } from 'tap';
import type { Test } from 'tap';

import { MINUTE, SECOND } from './clock.ts';
import { RackstartError } from './errors.ts';
import type { CircuitTurn, GuardRules } from './guard.ts';
import { Guards, refusedUntil } from './guard.ts';
import { ManualClock } from './manual-clock.ts';

const rules: GuardRules = {
  inFlight: 2,
  waiting: 1,
  failures: 3,
  openFor: 30 * SECOND,
  deadline: MINUTE,
  isFault: ({ code }) => code === 'bmc.unreachable',
};
const forever = new AbortController().signal;

test('calls beyond the limit wait for their turn; one more than may wait is refused, and hears when to ask again', async (t) => {
  const { guard, clock, view } = bench();
  const calls = [0, 1, 2].map(() => heldCall());
  const results = calls.map(({ work }) => guard.run(work, { signal: forever }));
  await t.rejects(guard.run(succeeds, { signal: forever }), {
    code: 'provider.busy',
    details: { cluster: 'bmc:north/r1', retryAt: clock.now() + SECOND, retryAfter: 1 },
  });
  t.same(
    calls.map(({ begun }) => begun()),
    [true, true, false],
  );
  t.match(view(), { state: 'closed', inFlight: 2, waiting: 1, refused: 1 });
  calls[0]!.end('first');
  t.equal(await results[0], 'first');
  await clock.advance(0);
  t.ok(calls[2]!.begun());
  calls[1]!.end('second');
  calls[2]!.end('third');
  t.same(await Promise.all(results), ['first', 'second', 'third']);
  t.match(view(), { inFlight: 0, waiting: 0 });
});

test('failures in a row open the circuit: it refuses unheard, lets one call try, and closes when that succeeds', async (t) => {
  const { guard, clock, view, turns } = bench();
  const at = clock.now();
  await fail(t, guard, 2);
  t.match(view(), { state: 'closed', failures: 2 });
  await fail(t, guard, 1);
  t.match(view(), { state: 'open', since: at, retryAt: at + 30 * SECOND, failures: 3, openings: 1 });
  const refusal = await guard.run(neverCalled(t), { signal: forever }).catch((error: unknown) => error);
  t.match(refusal, { code: 'provider.circuit-open', transient: true, status: 503 });
  t.equal(refusedUntil(refusal), at + 30 * SECOND);

  await clock.advance(30 * SECOND);
  t.match(view(), { state: 'half-open', retryAt: null });
  const probe = heldCall();
  const probing = guard.run(probe.work, { signal: forever });
  await clock.advance(SECOND);
  t.ok(probe.begun());
  t.match(view(), { state: 'half-open', inFlight: 1 });
  const meanwhile = await guard.run(neverCalled(t), { signal: forever }).catch((error: unknown) => error);
  t.equal(refusedUntil(meanwhile), clock.now() + 5 * SECOND, 'not each of them while one tries');
  probe.end('there');
  t.equal(await probing, 'there');
  t.match(view(), { state: 'closed', since: at + 31 * SECOND, failures: 0, inFlight: 0 });
  t.equal(await guard.run(succeeds, { signal: forever }), 'yes');
  t.match(turns, [
    { cluster: 'bmc:north/r1', to: 'open', at, error: { code: 'bmc.unreachable' } },
    { cluster: 'bmc:north/r1', to: 'closed', at: at + 31 * SECOND, openedAt: at },
  ]);
  await fail(t, guard, 3);
  t.equal(turns.length, 3, 'the next opening is told again');
});

test('a call that tries and fails keeps the circuit open for as long again, and nobody is told a second time', async (t) => {
  const { guard, clock, view, turns } = bench();
  const at = clock.now();
  await fail(t, guard, 3);
  for (const time of [1, 2]) {
    await clock.advance(30 * SECOND);
    await fail(t, guard, 1);
    t.match(view(), { state: 'open', since: at, retryAt: at + (time + 1) * 30 * SECOND, openings: 1 });
  }
  t.equal(turns.length, 1);
});

test('one member that is dead does not open the circuit of all; several do, when none answered in between', async (t) => {
  const { guard, view } = bench();
  for (let times = 0; times < 10; times += 1) await fail(t, guard, 1, 'bmc1');
  await fail(t, guard, 1, 'bmc2');
  t.match(view(), { state: 'closed', failures: 2 });
  await guard.run(succeeds, { signal: forever, member: 'bmc3' });
  await fail(t, guard, 1, 'bmc1');
  await fail(t, guard, 1, 'bmc2');
  t.match(view(), { state: 'closed', failures: 2 }, 'that one answered says that the others may');
  await fail(t, guard, 1, 'bmc3');
  t.match(view(), { state: 'open' });
});

test('a member that is known to be dead closes nothing when its call is the one that tries', async (t) => {
  const { guard, clock, view } = bench();
  for (const member of ['bmc1', 'bmc2', 'bmc3']) await fail(t, guard, 1, member);
  await clock.advance(30 * SECOND);
  await fail(t, guard, 1, 'bmc1');
  t.match(view(), { state: 'open', retryAt: clock.now() + 30 * SECOND });
});

test('what the cluster answers is no failure of it, however it answers', async (t) => {
  const { guard, view } = bench();
  const members = ['bmc1', 'bmc2', 'bmc3'];
  for (const member of members.slice(1)) await fail(t, guard, 1, member);
  const refused = new RackstartError('bmc.auth', 'wrong password');
  await t.rejects(
    guard.run(() => Promise.reject(refused), { signal: forever, member: 'bmc1' }),
    refused,
  );
  t.match(view(), { state: 'closed', failures: 0 });
  for (const member of members) await fail(t, guard, 1, member);
  t.match(view(), { state: 'open' }, 'what failed before that answer counts anew');
});

test('a call that hangs is told to stop, ends at its deadline whether it stops or not, and counts as a failure', async (t) => {
  const { guard, clock, view } = bench();
  let told: unknown;
  const hanging = guard.run(
    (signal) =>
      new Promise(() =>
        signal.addEventListener('abort', () => {
          told = signal.reason;
        }),
      ),
    { signal: forever },
  );
  hanging.catch(() => undefined);
  await clock.advance(MINUTE - 1);
  t.equal(told, undefined);
  await clock.advance(1);
  t.match(told, { code: 'provider.timeout' });
  await t.rejects(hanging, { code: 'provider.timeout', transient: true, details: { cluster: 'bmc:north/r1' } });
  t.match(view(), { inFlight: 0, failures: 1 });
  t.equal(clock.nextWake(), undefined, 'no timer is left behind');
  await guard.run(succeeds, { signal: forever });
  t.equal(clock.nextWake(), undefined);
});

test('who is told to stop while waiting stops at once; who is being served is waited for; neither is a failure', async (t) => {
  const { guard, clock, view } = bench();
  await fail(t, guard, 2);
  const stop = new AbortController();
  const served = heldCall();
  const results = [served, heldCall()].map(({ work }) => guard.run(work, { signal: stop.signal }));
  const waiting = guard.run(neverCalled(t), { signal: stop.signal });
  const settled = Promise.allSettled([waiting]);
  let isServed = true;
  void results[0]!.catch(() => (isServed = false));
  void results[1]!.catch(() => undefined);
  const reason = new RackstartError('cancelled', 'not wanted any more');
  stop.abort(reason);
  t.match(await settled, [{ status: 'rejected', reason }]);
  t.ok(isServed, 'what still runs must not be undone yet');
  served.fail(reason);
  await t.rejects(results[0]!, reason);
  await t.rejects(guard.run(neverCalled(t), { signal: stop.signal }), reason);
  await clock.advance(0);
  t.match(view(), { state: 'closed', failures: 2, inFlight: 1, waiting: 0 });
});

test('a call that tries and is cancelled has found nothing out: the next one tries', async (t) => {
  const { guard, clock, view, turns } = bench();
  await fail(t, guard, 3);
  await clock.advance(30 * SECOND);
  const stop = new AbortController();
  const probe = heldCall();
  const probing = guard.run(probe.work, { signal: stop.signal });
  stop.abort(new RackstartError('cancelled', 'not wanted any more'));
  probe.fail(stop.signal.reason);
  await t.rejects(probing, { code: 'cancelled' });
  t.match(view(), { state: 'half-open' });
  await guard.run(succeeds, { signal: forever });
  t.match(view(), { state: 'closed' });
  t.equal(turns.length, 2);
});

test('a clock that is set back does not keep a circuit open', async (t) => {
  const { guard, clock, view } = bench();
  await fail(t, guard, 3);
  t.match(view(), { state: 'open' });
  clock.now = () => Date.UTC(2025, 0, 1);
  t.equal(await guard.run(succeeds, { signal: forever }), 'yes');
  t.match(view(), { state: 'closed' });
});

test('each cluster has one guard of its own', async (t) => {
  const { guard, guards } = bench();
  t.equal(guards.of('bmc:north/r1', rules), guard);
  const other = guards.of('bmc:east/r1', rules);
  await fail(t, guard, 3);
  t.equal(await other.run(succeeds, { signal: forever }), 'yes');
  t.match(guards.list(), [
    { cluster: 'bmc:east/r1', state: 'closed' },
    { cluster: 'bmc:north/r1', state: 'open' },
  ]);
});

function bench() {
  const clock = new ManualClock();
  const turns: CircuitTurn[] = [];
  const guards = new Guards(clock, (turn) => turns.push(turn));
  const guard = guards.of('bmc:north/r1', rules);
  return { clock, guards, guard, turns, view: () => guard.view() };
}

function succeeds(): Promise<string> {
  return Promise.resolve('yes');
}

function neverCalled(t: Test): () => Promise<never> {
  return () => {
    t.fail('it was called');
    return Promise.reject(new Error('it was called'));
  };
}

async function fail(t: Test, guard: ReturnType<Guards['of']>, times: number, member?: string): Promise<void> {
  for (let time = 0; time < times; time += 1) {
    const dead = () => Promise.reject(new RackstartError('bmc.unreachable', 'no answer'));
    await t.rejects(guard.run(dead, { signal: forever, ...(member === undefined ? {} : { member }) }), {
      code: 'bmc.unreachable',
    });
  }
}

/** A call that takes as long as the test wants. */
function heldCall() {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let hasBegun = false;
  const work = () => {
    hasBegun = true;
    return promise;
  };
  return { work, begun: () => hasBegun, end: resolve, fail: reject };
}
