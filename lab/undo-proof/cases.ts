import { shapeNames } from '../../appliance/providers/simulation/shapes.ts';
import { enterAccessDetails } from './hand-made.ts';
import type { Choice, Site } from './site.ts';
import type { SagaCase } from './trial.ts';
import type { Worker } from './worker.ts';

/** A deploy and its release, as whatever provider makes the server. */
function provision(provider: string, cluster?: string): SagaCase {
  const choice = { provider, ...(cluster === undefined ? {} : { cluster }) };
  return {
    ...{ saga: 'provision', provider: Object.values(choice).join(' ') },
    async begin(site, worker) {
      await site.order(worker, choice);
    },
    giveBack: release,
    cancel: release,
    elapse: enterAccessDetails,
  };
}

async function release(site: Site, worker: Worker): Promise<void> {
  const requests = await site.store.read.selectFrom('requests').select('id').execute();
  for (const { id } of requests) await site.release(worker, id);
}

const inspect: SagaCase = {
  ...{ saga: 'inspect', provider: 'bare-metal' },
  async begin({ store, machineIds }, { care }) {
    await store.transaction((tx) => care.startInspection(tx, machineIds[0] ?? ''));
  },
};

const wipe: SagaCase = {
  ...{ saga: 'wipe', provider: 'bare-metal' },
  // As an operator's readmission leaves a machine: proven off, its disk still a tenant's.
  async begin({ store, machineIds: [machineId = ''] }, { care }) {
    await store.transaction(async (tx) => {
      const dirty = { state: 'quarantined', disk_state: 'dirty' } as const;
      await tx.updateTable('machines').set(dirty).where('id', '=', machineId).execute();
      await care.startWipe(tx, machineId);
    });
  },
};

/** The rows of the matrix; one more is a line. */
export const cases: readonly SagaCase[] = [
  provision('bare-metal'),
  inspect,
  wipe,
  provision('manual'),
  ...shapeNames.map((shape) => provision('simulation', shape)),
];

/** Where random schedules order their servers. */
export const choices: readonly Choice[] = [
  { provider: 'bare-metal' },
  { provider: 'manual' },
  ...shapeNames.map((cluster) => ({ provider: 'simulation', cluster })),
];
