import type { Test } from 'tap';

import type { EventRecord } from '../events/event-log.ts';
import type { MachineRow } from '../store/schema.ts';
import type { Pipeline } from './pipeline.fixture.ts';
import { findRequest } from './request-records.ts';

/** Everything that the request held is free, the machine clean and available unless told otherwise, and it was told once. */
export async function isGivenBack(
  t: Test,
  pipeline: Pipeline,
  id: string,
  told: EventRecord['type'] = 'provisioning.rolled-back',
  machine: Partial<MachineRow> = { state: 'available', disk_state: 'clean' },
): Promise<void> {
  const { store } = pipeline;
  const events = await pipeline.events();
  const { created_at, ended_at } = await findRequest(store.read, id);
  const [event, ...others] = events.filter(({ type }) => type === told);
  t.match(event, { key: id, tenantId: 't1', data: { requestId: id, from: created_at, to: ended_at } });
  t.same(others, [], 'told once');
  const allocated = events
    .filter(({ type }) => type === 'resource.allocated')
    .map(({ data }) => data as { resource: string; id: string });
  if (told === 'provisioning.rolled-back') {
    t.same(
      (event?.data as unknown as { held: string[] }).held,
      allocated.map((one) => `${one.resource} ${one.id}`),
      'what a refund needs',
    );
  }
  t.match(await pipeline.machine(), machine);
  t.same(await servers(pipeline), []);
  t.same(await store.read.selectFrom('allocations').selectAll().execute(), []);
  t.match(await store.read.selectFrom('quotas').selectAll().where('tenant_id', '=', 't1').execute(), [
    { used_servers: 0, used_cores: 0 },
  ]);
  await pipeline.isHealthy(t);
}

/** The addresses held by or for servers. */
export function servers({ store }: Pipeline) {
  return store.read.selectFrom('addresses').selectAll().where('holder_kind', '!=', 'nic').execute();
}

export function attempt({ store }: Pipeline, requestId: string) {
  return store.read.selectFrom('attempts').selectAll().where('request_id', '=', requestId).executeTakeFirstOrThrow();
}

export function eventOf(events: readonly EventRecord[], type: EventRecord['type']): EventRecord | undefined {
  return events.find((event) => event.type === type);
}
