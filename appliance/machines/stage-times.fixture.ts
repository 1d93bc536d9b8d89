import type { Millis } from '../kernel/clock.ts';
import type { StageTimeRow } from '../store/schema.ts';
import type { Store } from '../store/store.ts';
import type { WatchedStage } from './boot-deadlines.ts';

/** A boot of long ago; of a UEFI machine of model `D1`, and to its end, unless told. */
export interface TimedBoot extends Partial<Pick<StageTimeRow, 'model' | 'firmware' | 'outcome'>> {
  readonly machineId: string;
  readonly endedAt: Millis;
  readonly stages: Readonly<Partial<Record<WatchedStage, Millis>>>;
}

/** Writes down what these boots took, and their orders and sessions, which are older than any that the machine will have. */
export async function timedBoots(store: Store, boots: readonly TimedBoot[]): Promise<void> {
  await store.transaction(async (tx) => {
    for (const [index, boot] of boots.entries()) {
      const { machineId: machine_id, endedAt: at, stages } = boot;
      const [id, generation] = [`old_${String(at)}_${String(index)}`, -1 - index];
      const order = { id, machine_id, generation, verb: 'inspect', plan_digest: null } as const;
      const nobody = { attempt_id: null, tenant_id: null, claimed_at: null };
      await tx
        .insertInto('boot_orders')
        .values({ ...order, ...nobody, state: 'consumed', created_at: at, ended_at: at })
        .execute();
      const session = { id, machine_id, order_id: id, generation, state: 'done', stages: '{}' };
      const times = { opened_at: at, window_until: at, powered_at: at, seen_at: at, ended_at: at, claimed_at: at };
      await tx
        .insertInto('boot_sessions')
        .values({ ...session, ...times, nonce_hash: null, end_reason: 'done', moved_at: at, moved_bytes: 0 })
        .execute();
      const { model = 'D1', firmware = 'uefi', outcome = 'done' } = boot;
      const about = { session_id: id, machine_id, model, firmware, outcome, ended_at: at };
      const rows = Object.entries(stages).map(([stage, milliseconds]) => ({ ...about, stage, milliseconds }));
      await tx.insertInto('stage_times').values(rows).execute();
    }
  });
}
