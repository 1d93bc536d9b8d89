import { createEventLog } from '../events/event-log.ts';
import type { EventLog } from '../events/event-log.ts';
import { Sequencer } from '../events/sequencer.ts';
import { createIds } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { Sagas } from '../saga/sagas.ts';
import type { RequestRow } from '../store/schema.ts';
import type { Store, Tx } from '../store/store.ts';
import { areMet, notePrerequisites } from './prerequisites.ts';
import { moveRequest } from './request-records.ts';
import type { RequestState } from './request-states.ts';

/** Requests of tenants in whatever state, without anybody who works on them. */
export class Queued {
  readonly deps;
  readonly events: EventLog;
  readonly #sequencer: Sequencer;
  #orders = 0;

  constructor(store: Store, clock: ManualClock, ids = createIds(clock)) {
    const parts = { store, clock, ids, log: silentLog };
    this.#sequencer = new Sequencer(parts);
    this.events = createEventLog({ ...parts, sequencer: this.#sequencer });
    this.deps = { ...parts, events: this.events, sagas: new Sagas(parts) };
  }

  async describe(tenantIds: readonly string[]): Promise<void> {
    await this.deps.store.transaction(async (tx) => {
      const tenants = tenantIds.map((id) => ({ id, name: id, created_at: 0 }));
      await tx.insertInto('tenants').values(tenants).execute();
      await tx.insertInto('regions').values({ id: 'reg1', name: 'north' }).execute();
      const flavor = { id: 'flv1', name: 'small', cores: 1, memory_mib: 1, disk_gib: 1, nics: 'same' } as const;
      await tx.insertInto('flavors').values(flavor).execute();
      const image = { sha256: 'ab', source_sha256: 'cd', bytes: 1, raw_bytes: 1, map_bytes: 1, root_partition: 1 };
      const named = { id: 'img1', name: 'debian', version: '12', root_fs: 'ext4', kernel_args: '' } as const;
      await tx
        .insertInto('images')
        .values({ ...image, ...named, created_at: 0 })
        .execute();
    });
  }

  /** Requests in the queue, with sagas that sleep; their ids. */
  async queue(tx: Tx, tenantId: string, count = 1, change: Partial<RequestRow> = {}): Promise<string[]> {
    const at = this.deps.clock.now();
    const numbers = Array.from({ length: count }, () => String(this.#orders++).padStart(6, '0'));
    const nothing = { connection: null, failure: null, idempotency_key: null, idempotency_digest: null };
    const nobody = { project_id: null, user_id: null, progress_at: null, completed_at: null, ended_at: null };
    const made = { region_id: 'reg1', flavor_id: 'flv1', image_id: 'img1', params: '{}', created_by: 'key_1' };
    const times = { created_at: at, updated_at: at, ready_at: at, dispatched_at: null };
    const order = { provider: 'bare-metal', hostname: 'h', state: 'queued' } as const;
    const requests = numbers.map((number) => {
      const id = `srv_${number}`;
      return { id, tenant_id: tenantId, ...order, ...nothing, ...nobody, ...made, ...times, ...change };
    });
    await tx.insertInto('requests').values(requests).execute();
    const plan = { name: 'provision', version: 1, params: '{}', state: 'running', reason: null, owner: null } as const;
    const asleep = { epoch: 0, lease_expires_at: 0, wake_at: Number.MAX_SAFE_INTEGER, created_at: at, ended_at: null };
    await tx
      .insertInto('sagas')
      .values(
        numbers.map((number) => {
          return { id: `saga_${number}`, subject: `att_${number}`, tenant_id: tenantId, ...plan, ...asleep };
        }),
      )
      .execute();
    const running = { number: 1, machine_id: null, path: 'cold', outcome: 'running', failure: null } as const;
    await tx
      .insertInto('attempts')
      .values(
        numbers.map((number) => {
          const of = { id: `att_${number}`, request_id: `srv_${number}`, saga_id: `saga_${number}` };
          return { ...of, tenant_id: tenantId, ...running, created_at: at, ended_at: null };
        }),
      )
      .execute();
    return requests.map(({ id }) => id);
  }

  async move(requestId: string, to: RequestState): Promise<boolean> {
    const move = { requestId, to, actor: 'test', at: this.deps.clock.now() };
    return (await this.deps.store.transaction((tx) => moveRequest(tx, this.deps, move))) !== undefined;
  }

  /** Lets a request depend on others that are not there yet. */
  async depend(tx: Tx, tenantId: string, prerequisites: readonly string[]): Promise<string> {
    const isReady = await areMet(tx, tenantId, prerequisites);
    const [requestId = ''] = await this.queue(tx, tenantId, 1, isReady ? {} : { ready_at: null });
    await notePrerequisites(tx, { requestId, tenantId }, prerequisites);
    return requestId;
  }

  /** The ids of the tenants' requests in a state, the first dispatched first. */
  async in(...states: RequestState[]): Promise<string[]> {
    const rows = await this.deps.store.read
      .selectFrom('requests')
      .select('id')
      .where('state', 'in', states)
      .orderBy('dispatched_at')
      .orderBy('id')
      .execute();
    return rows.map(({ id }) => id);
  }

  sequence(): Promise<void> {
    return this.#sequencer.sequence();
  }
}
