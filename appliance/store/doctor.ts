import { sql } from 'kysely';

import type { Reader } from './store.ts';

/** One invariant that doesn't hold: which, and for what. */
export interface Finding {
  readonly invariant: string;
  readonly subject: string;
}

/**
 * What must be true between any two transactions, whatever was killed when. Each query returns the subjects for which its
 * invariant does not hold; a healthy database returns nothing.
 */
export async function examine(read: Reader): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const [invariant, query] of Object.entries(invariants)) {
    const rows = await read
      .selectFrom(sql<{ subject: string }>`(${sql.raw(query)})`.as('broken'))
      .select('subject')
      .execute();
    findings.push(...rows.map(({ subject }) => ({ invariant, subject })));
  }
  return findings;
}

/** How many invariants `examine` knows, for people who want to see that it looked. */
export const invariantCount = (): number => Object.keys(invariants).length;

const liveAttempt = `select id from attempts where ended_at is null`;
const liveRequest = `select id from requests where ended_at is null`;

const invariants: Readonly<Record<string, string>> = {
  'a held machine belongs to an attempt that has not ended': `select machine_id as subject from allocations where attempt_id not in (${liveAttempt})`,
  'a machine is deploying or deployed exactly while it is held': `
    select m.id as subject from machines m left join allocations a on a.machine_id = m.id
    where (a.machine_id is null and m.state in ('deploying', 'deployed'))
       or (a.machine_id is not null and m.state not in ('deploying', 'deployed', 'quarantined'))`,
  "a server's address belongs to an attempt that has not ended": `select address as subject from addresses where holder_kind = 'attempt' and holder_id not in (${liveAttempt})`,
  "a reserved address belongs to a known machine's NIC": `select address as subject from addresses where holder_kind = 'nic' and holder_id not in (select mac from machine_nics)`,
  'an address set aside belongs to a quarantined machine': `
    select address as subject from addresses
    where holder_kind = 'set-aside' and holder_id not in (select id from machines where state = 'quarantined')`,
  'an address is not leased to a stranger while it is held': `
    select l.address as subject from leases l
    join addresses a on a.subnet_id = l.subnet_id and a.address = l.address`,
  'a machine that may be ordered has no open critical issue': `
    select id as subject from machines where state in ('available', 'ready')
      and id in (select machine_id from machine_issues where severity = 'critical' and resolved_at is null)`,
  'an unknown machine that waits is not one that is enrolled': `
    select d.id as subject from discovered_machines d join machine_nics n on n.mac = d.mac
    where d.state <> 'enrolled'`,
  'a live boot order belongs to a machine that is being worked on': `
    select o.id as subject from boot_orders o join machines m on m.id = o.machine_id
    where o.state in ('pending', 'claimed') and m.state not in ('deploying', 'inspecting', 'releasing', 'warming', 'ready')`,
  'a machine that is ready waits in a ramdisk for its order': `
    select m.id as subject from machines m where m.state = 'ready' and not exists
      (select 1 from boot_sessions s join boot_orders o on o.id = s.order_id
       where s.machine_id = m.id and s.ended_at is null and s.state = 'parked' and o.verb = 'wait' and o.state = 'claimed')`,
  'a boot that continues another has been ordered at its end, and got no window of its own': `
    select s.id as subject from boot_sessions s left join boot_sessions w on w.id = s.continues
    where s.continues is not null
      and (w.ended_at is null or w.end_reason <> 'ordered' or w.machine_id <> s.machine_id or s.window_until > s.opened_at)`,
  'a live install order belongs to an attempt that has not ended': `
    select id as subject from boot_orders
    where state in ('pending', 'claimed') and verb = 'install' and attempt_id not in (${liveAttempt})`,
  'an open boot session belongs to a machine that is being worked on': `
    select s.id as subject from boot_sessions s join machines m on m.id = s.machine_id
    where s.ended_at is null
      and m.state not in ('deploying', 'deployed', 'inspecting', 'releasing', 'warming', 'ready')`,
  'a request that has not ended has an attempt that has not': `select id as subject from requests where ended_at is null and id not in
       (select request_id from attempts where ended_at is null)`,
  'an attempt ends with its request or before': `
    select id as subject from attempts where ended_at is null and request_id not in (${liveRequest})`,
  'a request has one attempt that serves, or one that is under way and a hedge beside it': `
    select request_id as subject from attempts
    where outcome in ('running', 'succeeded') and ended_at is null and outrun_at is null
    group by request_id
    having count(*) > 1 and (count(hedges) <> 1 or count(*) > 2 or sum(case outcome when 'succeeded' then 1 else 0 end) > 0)`,
  'what was outrun is no server': `
    select t.id as subject from attempts t left join allocations a on a.attempt_id = t.id
    left join machines m on m.id = a.machine_id
    where t.outrun_at is not null and (t.outcome = 'succeeded' or m.state = 'deployed')`,
  'a machine on which a request failed is not tried for it again': `
    select later.id as subject from attempts later join attempts failed on failed.request_id = later.request_id
    where failed.outcome = 'failed' and failed.number < later.number and failed.machine_id = later.machine_id`,
  "an agent's credential dies with its attempt": `select attempt_id as subject from agents where revoked_at is null and attempt_id not in (${liveAttempt})`,
  'a saga that has ended holds no lease and waits for nothing': `
    select id as subject from sagas where state in ('completed', 'undone', 'stuck') and reason is null and wake_at is not null
    union select saga_id as subject from saga_waits
      where saga_id in (select id from sagas where state in ('completed', 'undone'))`,
  // What a skipped step has left is on the operator who skipped it; what a provider still holds of it, the sweep finds.
  'an undone saga holds no resource': `
    select r.saga_id as subject from resources r join sagas s on s.id = r.saga_id
    where s.state = 'undone' and r.state <> 'deleted' and not exists
      (select 1 from saga_steps p where p.saga_id = r.saga_id and p.name = r.step and p.state = 'skipped')`,
  'a request that has ended has a saga that has ended': `
    select a.saga_id as subject from attempts a join sagas s on s.id = a.saga_id
    where a.ended_at is not null and s.state in ('running', 'undoing')`,
  'the quota in use is what requests that have not ended were admitted for': `
    select q.holder_id as subject from quotas q left join (
      select h.kind, h.id, count(*) as servers, sum(f.cores) as cores, sum(f.memory_mib) as memory, sum(f.disk_gib) as disk
      from (select 'tenant' as kind, tenant_id as id, flavor_id from requests where ended_at is null
        union all select 'project', project_id, flavor_id from requests where ended_at is null
        union all select 'user', user_id, flavor_id from requests where ended_at is null
      ) h join flavors f on f.id = h.flavor_id group by h.kind, h.id
    ) used on used.kind = q.holder_kind and used.id = q.holder_id
    where q.used_servers <> coalesce(used.servers, 0) or q.used_cores <> coalesce(used.cores, 0)
       or q.used_memory_mib <> coalesce(used.memory, 0) or q.used_disk_gib <> coalesce(used.disk, 0)`,
  'every tenant, project and user of a tenant has a quota': `
    select id as subject from (select 'tenant' as kind, id from tenants
      union all select 'project', id from projects where deleted_at is null
      union all select 'user', id from users where tenant_id is not null) holders
    where not exists (select 1 from quotas q where q.holder_kind = holders.kind and q.holder_id = holders.id)`,
};
