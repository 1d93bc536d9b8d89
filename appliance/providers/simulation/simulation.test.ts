import { proveProvider } from '../provider-proof.ts';
import { sqliteStore } from '../../store/test-stores.ts';
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
