import { RackstartError } from '../kernel/errors.ts';
import type { Tx } from '../store/store.ts';

/** What one server counts for. */
export interface QuotaShape {
  readonly cores: number;
  readonly memoryMib: number;
  readonly diskGib: number;
}

/** Generous on purpose: a quota stops a runaway script, not a customer. */
export const defaultQuota = {
  max_servers: 100,
  max_cores: 10_000,
  max_memory_mib: 64 * 1024 * 1024,
  max_disk_gib: 1024 * 1024,
} as const;

/**
 * Takes one server's share, or nothing: one conditional update, exact under any concurrency.
 * Errors: `quota.exceeded`, with what is used and what the limits are.
 */
export async function reserveQuota(tx: Tx, tenantId: string, shape: QuotaShape): Promise<void> {
  const { numUpdatedRows } = await tx
    .updateTable('quotas')
    .set((eb) => ({
      used_servers: eb('used_servers', '+', 1),
      used_cores: eb('used_cores', '+', shape.cores),
      used_memory_mib: eb('used_memory_mib', '+', shape.memoryMib),
      used_disk_gib: eb('used_disk_gib', '+', shape.diskGib),
    }))
    .where('holder_kind', '=', 'tenant')
    .where('holder_id', '=', tenantId)
    .where((eb) =>
      eb.and([
        eb(eb('used_servers', '+', 1), '<=', eb.ref('max_servers')),
        eb(eb('used_cores', '+', shape.cores), '<=', eb.ref('max_cores')),
        eb(eb('used_memory_mib', '+', shape.memoryMib), '<=', eb.ref('max_memory_mib')),
        eb(eb('used_disk_gib', '+', shape.diskGib), '<=', eb.ref('max_disk_gib')),
      ]),
    )
    .executeTakeFirst();
  if (numUpdatedRows === 1n) return;
  const quota = await tx
    .selectFrom('quotas')
    .selectAll()
    .where('holder_kind', '=', 'tenant')
    .where('holder_id', '=', tenantId)
    .executeTakeFirst();
  throw new RackstartError('quota.exceeded', 'One more server of this shape would exceed the quota.', {
    details: { asked: { servers: 1, ...shape }, quota },
  });
}

/** Gives one server's share back. The caller sees to it that this happens once: in the transaction that ends the request. */
export async function freeQuota(tx: Tx, tenantId: string, shape: QuotaShape): Promise<void> {
  await tx
    .updateTable('quotas')
    .set((eb) => ({
      used_servers: eb('used_servers', '-', 1),
      used_cores: eb('used_cores', '-', shape.cores),
      used_memory_mib: eb('used_memory_mib', '-', shape.memoryMib),
      used_disk_gib: eb('used_disk_gib', '-', shape.diskGib),
    }))
    .where('holder_kind', '=', 'tenant')
    .where('holder_id', '=', tenantId)
    .execute();
}
