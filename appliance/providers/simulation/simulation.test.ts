import { proveProvider } from '../provider-proof.ts';
import { sqliteStore } from '../../store/test-stores.ts';
import { usualDelays, SimulatedCluster } from './simulated-cluster.ts';
import { shapeNames } from './shapes.ts';
import { simulatedSite, simulatedSpec, simulatedTenant } from './simulation.fixture.ts';

for (const shape of shapeNames) {
  sqliteStore(
    `a simulated cluster of the shape of ${shape} passes the suite of providers`,
    async (t, store, { clock }) => {
      await simulatedTenant({ store, clock });
      let requests = 0;
      const request = () => Promise.resolve(simulatedSpec((requests += 1)));
      const proven = await proveProvider({ ...simulatedSite({ store, clock }, shape), store, clock, request });
      for (const { clause, problems } of proven) t.same(problems, [], clause);
    },
  );
}

sqliteStore(
  'a call does its work in the midst of the time that it takes, and what it made counts from its end',
  async (t, store, c) => {
    const { clock } = c;
    await simulatedTenant({ store, clock });
    const always = (ms: number) => ({ least: ms, usual: ms, most: ms });
    const delays = { ...usualDelays, create: always(200), start: always(3_000) };
    const settings = { name: 'c1', shape: 'proxmox', region: undefined, seed: '7', delays, failureRates: {} } as const;
    const cluster = new SimulatedCluster({ store, clock }, settings);
    const call = { kind: 'run', name: 'saga_1/run', tries: 1, signal: new AbortController().signal };
    const answerAt = clock.now() + 200;
    let answered = false;
    const creating = cluster
      .create(call, { id: 'r1', tenantId: 't1', details: {}, starts: true })
      .then(() => (answered = true));
    t.equal(await cluster.see(call), undefined);
    await clock.advance(100);
    while ((await cluster.see(call)) === undefined) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(99);
    t.equal(answered, false);
    await clock.advance(1);
    await creating;
    t.match(await cluster.see(call), { created_at: answerAt, ready_at: answerAt + 3_000 });
  },
);
