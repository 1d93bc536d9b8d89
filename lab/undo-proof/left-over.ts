import type { Held, Provider, ProviderContext } from '../../appliance/providers/provider.ts';
import type { Reader } from '../../appliance/store/store.ts';
import { examine } from '../../appliance/store/doctor.ts';
import type { Site } from './site.ts';

/** What may be left, since somebody must look at it first. */
export interface Allowed {
  /** Machines in quarantine, with addresses that are kept from others until they are proven off. */
  readonly quarantine: boolean;
}

/** What is wrong when everything has come to an end: nothing may be held, live, waiting, or counted. */
export async function leftOver(site: Site, allowed: Allowed): Promise<string[]> {
  const { read } = site.store;
  const found = await examine(read);
  const rows = await Promise.all(Object.entries(mustBeEmpty).map(([what, query]) => counted(what, query(read))));
  return [
    ...found.map(({ invariant, subject }) => `the doctor finds: ${invariant}: ${subject}`),
    ...rows.flat(),
    ...(await openRequests(read)),
    ...(await usedQuota(read)),
    ...(await machinesNotBack(site, allowed)),
    ...(await heldAtProviders(site)),
  ];
}

const mustBeEmpty: Readonly<Record<string, (read: Reader) => Promise<unknown[]>>> = {
  'a saga that has not ended': (read) =>
    read.selectFrom('sagas').select('id').where('state', 'not in', ['completed', 'undone']).execute(),
  'a lease on a saga': (read) => read.selectFrom('sagas').select('id').where('owner', 'is not', null).execute(),
  'a saga that will wake': (read) => read.selectFrom('sagas').select('id').where('wake_at', 'is not', null).execute(),
  'a wait': (read) => read.selectFrom('saga_waits').select('saga_id').execute(),
  // What a skipped step has left is on the operator, who looks at what the provider holds.
  'a resource that is held': (read) =>
    read
      .selectFrom('resources')
      .innerJoin('saga_steps', (join) =>
        join
          .onRef('saga_steps.saga_id', '=', 'resources.saga_id')
          .onRef('saga_steps.name', '=', 'resources.step'),
      )
      .select('resources.name')
      .where('resources.state', '!=', 'deleted')
      .where('saga_steps.state', '!=', 'skipped')
      .execute(),
  'an allocation': (read) => read.selectFrom('allocations').select('machine_id').execute(),
  'an address of a server': (read) =>
    read.selectFrom('addresses').select('address').where('holder_kind', '=', 'attempt').execute(),
  'a live boot order': (read) =>
    read.selectFrom('boot_orders').select('id').where('state', 'in', ['pending', 'claimed']).execute(),
  'an open boot session': (read) => read.selectFrom('boot_sessions').select('id').where('ended_at', 'is', null).execute(),
  'an agent that may speak': (read) =>
    read.selectFrom('agents').select('attempt_id').where('revoked_at', 'is', null).execute(),
  'a lease of an address': (read) => read.selectFrom('leases').select('address').execute(),
}; // prettier-ignore

async function counted(what: string, rows: Promise<unknown[]>): Promise<string[]> {
  const { length } = await rows;
  return length === 0 ? [] : [`${what} is left (${String(length)})`];
}

async function openRequests(read: Reader): Promise<string[]> {
  const rows = await read.selectFrom('requests').select(['id', 'state', 'ended_at']).execute();
  return rows
    .filter(({ state, ended_at }) => ended_at === null || !['rolled-back', 'deprovisioned'].includes(state))
    .map(({ id, state }) => `request ${id} has no end: it is ${state}`);
}

async function usedQuota(read: Reader): Promise<string[]> {
  const rows = await read.selectFrom('quotas').selectAll().where('used_servers', '!=', 0).execute();
  return rows.map(({ holder_id, used_servers }) => `quota of ${holder_id}: ${String(used_servers)} servers in use`);
}

async function machinesNotBack({ store, rack, machineIds }: Site, { quarantine }: Allowed): Promise<string[]> {
  const rows = await store.read.selectFrom('machines').select(['id', 'name', 'state', 'disk_state']).execute();
  const looks = await rack.look();
  return rows.flatMap(({ id, name, state, disk_state }) => {
    if (state === 'quarantined' && quarantine) return [];
    if (state !== 'available') return [`machine ${name} is ${state}`];
    const machine = looks[machineIds.indexOf(id)];
    return [
      ...(disk_state === 'clean' ? [] : [`machine ${name} is free with a ${disk_state} disk`]),
      ...(machine?.installed !== true ? [] : [`machine ${name} is free with a tenant's system on it`]),
      ...(machine?.on === true ? [`machine ${name} is free and on`] : []),
      ...(machine?.armed === true ? [`machine ${name} is free under an armed watchdog`] : []),
      ...(machine?.override === undefined ? [] : [`machine ${name} is free and would boot from ${machine.override}`]),
    ];
  });
}

async function heldAtProviders(site: Site): Promise<string[]> {
  return (await holdingsOf(site)).map(({ held: { kind, id } }) => `the provider holds ${kind} ${id}`);
}

/** What an operator does who has skipped an undo: has what is still held removed, as the sweep would. */
export async function removeHoldings(site: Site): Promise<void> {
  for (const { provider, held } of await holdingsOf(site)) await provider.remove(held, contextOf(site));
}

async function holdingsOf(site: Site): Promise<{ provider: Provider; held: Held }[]> {
  const providers = site.workers.at(-1)?.providers.all ?? [];
  const all = providers.map(async (provider) => {
    const holdings = await provider.holdings(contextOf(site));
    return holdings.map((held) => ({ provider, held }));
  });
  return (await Promise.all(all)).flat();
}

function contextOf({ store, clock }: Site): ProviderContext {
  const { signal } = new AbortController();
  return { clock, signal, read: store.read, transaction: (work) => store.transaction(work) };
}
