import { RackstartError } from '../kernel/errors.ts';
import type { RackMachine } from '../machines/rack.fixture.ts';
import type { ServerSpec } from '../providers/provider.ts';
import type { Trouble } from '../providers/provider-proof.ts';
import { proveProvider } from '../providers/provider-proof.ts';
import { sqliteStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';

// Each request of the suite takes a machine, and a machine that was written to is gone until it is wiped.
const MACHINES = 40;

sqliteStore(
  'bare metal passes the suite of providers, on doubles of machines and BMCs',
  async (t, store, { clock }) => {
    // Nobody has a turn: requests are admitted, and what is made for them is made by the suite.
    const fairness = { perTenant: 0 };
    const pipeline = await Pipeline.open(t, store, clock, { machines: MACHINES, addresses: MACHINES, fairness });
    let trouble: Trouble | undefined;
    for (const [index, machine] of pipeline.rack.entries()) {
      // A wipe is the fleet's own affair, and nothing that the provider calls.
      meetTrouble(machine, async () => ((await pipeline.machine(index)).state === 'releasing' ? undefined : trouble));
    }

    const proven = await proveProvider({
      ...{ store, clock },
      provider: pipeline.daemon.providers.of({ provider: 'bare-metal' }),
      async request() {
        const id = await pipeline.order();
        const { params } = await store.read
          .selectFrom('sagas')
          .innerJoin('attempts', 'attempts.saga_id', 'sagas.id')
          .select('params')
          .where('request_id', '=', id)
          .executeTakeFirstOrThrow();
        return JSON.parse(params) as ServerSpec;
      },
      elapse: () => pipeline.settle(),
      trouble: (kind) => (trouble = kind),
    });
    for (const { clause, problems } of proven) t.same(problems, [], clause);
  },
);

const commands = ['power', 'setPower', 'bootOnce', 'bootOnceAndReset', 'clearBootOverride'] as const;

/** What the BMC of a machine meets comes before what it does. */
function meetTrouble(machine: RackMachine, now: () => Promise<Trouble | undefined>): void {
  for (const command of commands) {
    const obey = machine[command].bind(machine) as (...given: unknown[]) => Promise<unknown>;
    const meeting = async (...given: unknown[]) => {
      await meet(await now(), given.at(-1) as AbortSignal);
      return obey(...given);
    };
    Object.assign(machine, { [command]: meeting });
  }
}

async function meet(trouble: Trouble | undefined, signal: AbortSignal): Promise<void> {
  if (trouble === 'passing') throw new RackstartError('bmc.unreachable', 'no answer');
  if (trouble === 'permanent') throw new RackstartError('bmc.auth', 'another password');
  if (trouble !== 'hang') return;
  await new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error));
  });
}
