import type { Tx } from '../store/store.ts';

/**
 * The tenant that is told what the machine and the agent of an attempt report: the one whose server is made of it, or is to be. Of a
 * hedge that does not have the server, and of an attempt that has failed, was outrun or is given back, operators alone are told.
 */
export async function toldTenant(tx: Tx, attemptId: string | null): Promise<string | undefined> {
  if (attemptId === null) return undefined;
  const attempt = await tx
    .selectFrom('attempts')
    .select('tenant_id')
    .where('id', '=', attemptId)
    .where('outrun_at', 'is', null)
    .where((eb) => eb.or([eb('outcome', '=', 'succeeded'), eb('outcome', '=', 'running').and('hedges', 'is', null)]))
    .executeTakeFirst();
  return attempt?.tenant_id;
}
