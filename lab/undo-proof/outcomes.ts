import type { Reader } from '../../appliance/store/store.ts';

/** How requests ended; and what is wrong with how it was told: each end once, and no two of them. */
export async function outcomes(read: Reader): Promise<{ ends: Record<string, number>; wrong: string[] }> {
  const requests = await read.selectFrom('requests').select(['id', 'state', 'completed_at']).execute();
  const events = await read.selectFrom('events').select(['key', 'type']).execute();
  const ends: Record<string, number> = {};
  const wrong: string[] = [];
  for (const { id, state, completed_at } of requests) {
    ends[state] = (ends[state] ?? 0) + 1;
    const told = (type: string) => events.filter((event) => event.key === id && event.type === type).length;
    const expected: Readonly<Record<string, number>> = {
      'provisioning.started': 1,
      'provisioning.completed': completed_at === null ? 0 : 1,
      'provisioning.rolled-back': state === 'rolled-back' ? 1 : 0,
      'service.deprovisioned': state === 'deprovisioned' ? 1 : 0,
    };
    for (const [type, times] of Object.entries(expected)) {
      if (told(type) !== times) wrong.push(`${id} is ${state}, and ${type} was told ${String(told(type))} times`);
    }
  }
  return { ends, wrong };
}
