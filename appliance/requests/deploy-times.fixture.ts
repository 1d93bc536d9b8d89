import { SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import type { DeployStageRow } from '../store/schema.ts';
import type { Store } from '../store/store.ts';

/** A deploy that was timed; a BIOS machine of model `A` on a cold path in `reg_north` unless told. */
export interface TimedDeploy extends Partial<Pick<DeployStageRow, 'model' | 'firmware' | 'path' | 'region_id'>> {
  readonly endedAt: Millis;
  /** Seconds by span. */
  readonly spans: Readonly<Record<string, number>>;
}

/** Writes these deploys, and the tenant, regions, flavor and image they need, into an empty store. */
export async function timedDeploys(store: Store, deploys: readonly TimedDeploy[]): Promise<void> {
  await store.transaction(async (tx) => {
    await tx.insertInto('tenants').values({ id: 't1', name: 't1', created_at: 0 }).execute();
    for (const name of ['north', 'south']) {
      await tx
        .insertInto('regions')
        .values({ id: `reg_${name}`, name })
        .execute();
    }
    const shape = { cores: 1, memory_mib: 512, disk_gib: 1, nics: 'same' } as const;
    await tx
      .insertInto('flavors')
      .values({ id: 'flv1', name: 'small', ...shape })
      .execute();
    const image = { sha256: 'ab'.repeat(32), bytes: 1, raw_bytes: 1, map_bytes: 1, root_partition: 3 };
    const named = {
      source_sha256: 'cd',
      id: 'img1',
      name: 'debian',
      version: '12',
      root_fs: 'ext4',
      kernel_args: '',
    } as const;
    await tx
      .insertInto('images')
      .values({ ...image, ...named, created_at: 0 })
      .execute();
    for (const [index, deploy] of deploys.entries()) {
      const attemptId = `att_${String(index)}`;
      const { endedAt, spans, region_id = 'reg_north', model = 'A', firmware = 'bios', path = 'cold' } = deploy;
      const request = { id: `srv_${String(index)}`, tenant_id: 't1', provider: '', hostname: 'h' };
      const ends = { created_at: 0, updated_at: 0, completed_at: endedAt, ended_at: null };
      const nothing = { connection: null, failure: null, idempotency_key: null, idempotency_digest: null };
      const of = { region_id, flavor_id: 'flv1', image_id: 'img1', params: '{}', created_by: 'key_1' };
      const nobody = { project_id: null, user_id: null, progress_at: null, ready_at: 0, dispatched_at: 0 };
      await tx
        .insertInto('requests')
        .values({ ...request, ...of, ...nobody, ...nothing, ...ends, state: 'completed' })
        .execute();
      await tx
        .insertInto('attempts')
        .values({
          id: attemptId,
          request_id: request.id,
          tenant_id: 't1',
          number: 1,
          saga_id: `saga_${String(index)}`,
          machine_id: null,
          path,
          outcome: 'succeeded',
          failure: null,
          created_at: 0,
          ended_at: null,
        })
        .execute();
      const about = { attempt_id: attemptId, tenant_id: 't1', region_id, model, firmware, path, ended_at: endedAt };
      const rows = Object.entries(spans).map(([stage, seconds]) => {
        return { ...about, stage, milliseconds: Math.round(seconds * SECOND) };
      });
      await tx.insertInto('deploy_stages').values(rows).execute();
    }
  });
}
