import { SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { sqliteStore } from '../store/test-stores.ts';
import { apiBench } from './api.fixture.ts';

const rules = {
  ...{ inFlight: 1, waiting: 1, failures: 1, openFor: 15 * SECOND, deadline: 60 * SECOND },
  isFault: () => true,
};
const { signal } = new AbortController();

sqliteStore('clusters tell whether they answer, to operators and to Prometheus', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { operator, guards } = bench;
  t.same((await operator.get('/guards')).body, { guards: [] });
  const dead = guards.of('bmc:north/rack-1', rules);
  await t.rejects(dead.run(() => Promise.reject(new RackstartError('bmc.unreachable', 'no answer')), { signal }));
  await t.rejects(
    dead.run(() => Promise.resolve(), { signal }),
    { code: 'provider.circuit-open' },
  );
  const slow = guards.of('bmc:north/rack-2', rules);
  const answer = Promise.withResolvers<undefined>();
  const calls = [1, 2].map(() => slow.run(() => answer.promise, { signal }));

  const since = new Date(clock.now()).toISOString();
  const none = { inFlight: 0, waiting: 0, failures: 0, refused: 0, openings: 0, retryAt: null };
  const retryAt = new Date(clock.now() + 15 * SECOND).toISOString();
  t.same((await operator.get('/guards')).body, {
    guards: [
      { ...none, cluster: 'bmc:north/rack-1', state: 'open', since, retryAt, failures: 1, refused: 1, openings: 1 },
      { ...none, cluster: 'bmc:north/rack-2', state: 'closed', since, inFlight: 1, waiting: 1 },
    ],
  });
  const { body } = await bench.app.inject({ url: '/metrics', headers: operator.headers });
  for (const line of [
    'rackstart_guard_circuit{cluster="bmc:north/rack-1",state="open"} 1',
    'rackstart_guard_circuit{cluster="bmc:north/rack-1",state="closed"} 0',
    'rackstart_guard_circuit{cluster="bmc:north/rack-2",state="closed"} 1',
    'rackstart_guard_calls{cluster="bmc:north/rack-2",place="in-flight"} 1',
    'rackstart_guard_calls{cluster="bmc:north/rack-2",place="waiting"} 1',
    'rackstart_guard_refused_total{cluster="bmc:north/rack-1"} 1',
    'rackstart_guard_openings_total{cluster="bmc:north/rack-1"} 1',
  ])
    t.ok(body.includes(`${line}\n`), line);
  answer.resolve(undefined);
  await Promise.all(calls);
});
