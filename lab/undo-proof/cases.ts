import { placeOrder } from '../../appliance/machines/boot-order.ts';
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

/** On two machines beside each other: whichever is ready first has the server, and the other one is given back. */
const hedged: SagaCase = {
  ...{ saga: 'provision', provider: 'bare-metal, hedged', machines: 2 },
  async begin(site, worker) {
    await site.hedge(worker, await site.order(worker, { provider: 'bare-metal' }));
  },
  async giveBack(site, worker) {
    const { length } = await site.store.read.selectFrom('attempts').select('id').execute();
    if (length !== 2) throw new Error('nothing was tried beside it');
    await release(site, worker);
  },
  cancel: release,
  elapse: (_, { hedging }) => hedging.look(),
};

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

const warm: SagaCase = {
  ...{ saga: 'warm', provider: 'bare-metal' },
  async begin({ store, machineIds }, { pool }) {
    await store.transaction((tx) => pool.warmMachine(tx, machineIds[0] ?? ''));
  },
  giveBack: drainMachine,
  cancel: drainMachine,
};

/** Ready, it is drained; still warming, it is turned back. One that was set aside meanwhile is neither, and stays there. */
async function drainMachine({ store, machineIds: [machineId = ''] }: Site, { pool }: Worker): Promise<void> {
  await store.transaction(async (tx) => {
    const { state } = await tx
      .selectFrom('machines')
      .select('state')
      .where('id', '=', machineId)
      .executeTakeFirstOrThrow();
    if (state !== 'quarantined') await pool.drainMachine(tx, machineId);
  });
}

const drain: SagaCase = {
  ...{ saga: 'drain', provider: 'bare-metal', undoesNothing: true },
  // On, and parked: how it came there is the row above. Somebody else has told its BMC to boot it from the network once more.
  async begin({ store, ids, clock, rack, machineIds: [machineId = ''] }, { pool }) {
    await rack.bmc(1).setPower('on');
    await rack.bmc(1).bootOnce('pxe');
    await store.transaction(async (tx) => {
      const at = clock.now();
      const { orderId, sessionId } = await placeOrder(tx, ids, { machineId, verb: 'wait' }, { at, windowUntil: at });
      const claimed = { claimed_at: at };
      await tx
        .updateTable('boot_orders')
        .set({ ...claimed, state: 'claimed' })
        .where('id', '=', orderId)
        .execute();
      const parked = { ...claimed, state: 'parked', powered_at: at } as const;
      await tx.updateTable('boot_sessions').set(parked).where('id', '=', sessionId).execute();
      await tx.updateTable('machines').set({ state: 'ready' }).where('id', '=', machineId).execute();
      await pool.drainMachine(tx, machineId);
    });
  },
};

/** The rows of the matrix; one more is a line. */
export const cases: readonly SagaCase[] = [
  provision('bare-metal'),
  hedged,
  inspect,
  wipe,
  warm,
  drain,
  provision('manual'),
  ...shapeNames.map((shape) => provision('simulation', shape)),
];

/** Where random schedules order their servers. */
export const choices: readonly Choice[] = [
  { provider: 'bare-metal' },
  { provider: 'manual' },
  ...shapeNames.map((cluster) => ({ provider: 'simulation', cluster })),
];
