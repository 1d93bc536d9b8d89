import type { Clock } from '../../kernel/clock.ts';
import type { Store } from '../../store/store.ts';
import type { Provider, ServerSpec } from '../provider.ts';
import type { Trouble } from '../provider-proof.ts';
import type { ShapeName } from './shapes.ts';
import type { FailureRates, Operation, SimulatedClusterSettings } from './simulated-cluster.ts';
import { usualDelays } from './simulated-cluster.ts';
import { simulation } from './simulation.ts';

/** One cluster `c1` of a shape, of which a test decides how its calls go. */
export function simulatedSite(
  deps: { store: Store; clock: Clock },
  shape: ShapeName,
  change: Partial<SimulatedClusterSettings> = {},
): { provider: Provider; rates: FailureRates; trouble: (kind: Trouble | undefined) => void } {
  const rates: FailureRates = {};
  const cluster = { name: 'c1', shape, region: undefined, seed: '7', delays: usualDelays, failureRates: rates };
  return {
    provider: simulation(deps, [{ ...cluster, ...change }]),
    rates,
    trouble(kind) {
      for (const operation of called) rates[operation] = kind === undefined ? {} : { [kind]: 1 };
    },
  };
}

const called: readonly Exclude<Operation, 'start'>[] = ['create', 'find', 'delete', 'probe'];

export async function simulatedTenant({ store, clock }: { store: Store; clock: Clock }): Promise<void> {
  const tenant = { id: 't1', name: 't1', created_at: clock.now() };
  await store.transaction((tx) => tx.insertInto('tenants').values(tenant).execute());
}

/** A request that nothing else knows of. */
export function simulatedSpec(number: number): ServerSpec {
  const id = String(number);
  return {
    ...{ requestId: `srv_${id}`, attemptId: `att_${id}`, tenantId: 't1', provider: 'simulation', cluster: 'c1' },
    ...{ hostname: `web${id}`, regionId: 'reg1', sshKeys: ['ssh-ed25519 AAAA'] },
    flavor: { id: 'flv1', name: 'small', cores: 4, memory_mib: 8_192, disk_gib: 100, nics: 'same', layout: null },
    image: {
      ...{ id: 'img1', name: 'debian', version: '12', sha256: 'ab'.repeat(32), bytes: 1000, raw_bytes: 5000 },
      ...{
        tenant_id: null,
        map_bytes: 300,
        source_sha256: 'cd'.repeat(32),
        source_format: null,
        partition_table: null,
      },
      ...{ deprecated_at: null, deleted_at: null },
      ...{ root_partition: 3, root_fs: 'ext4', kernel_args: 'quiet', has_mdadm: null, created_at: 0 },
    },
  };
}
