import type { Pool } from 'pg';

/** What must hold once every request has come to rest; each query returns who breaks it. */
export const claims: Readonly<Record<string, string>> = {
  'a request has one attempt, and that one saga': `
    select r.id from requests r left join attempts a on a.request_id = r.id group by r.id having count(a.id) <> 1`,
  'a request has exactly one outcome, told once': `
    select r.id from requests r left join events e on e.key = r.id
      and e.type in ('provisioning.completed', 'provisioning.rolled-back')
    group by r.id having count(e.id) <> 1`,
  'a request that is completed was not undone, and the other way round': `
    select r.id from requests r join events e on e.key = r.id
      and e.type in ('provisioning.completed', 'provisioning.rolled-back', 'service.deprovisioned')
    group by r.id, r.state having case r.state
      when 'completed' then array_agg(e.type order by e.position) <> array['provisioning.completed']
      when 'rolled-back' then array_agg(e.type order by e.position) <> array['provisioning.rolled-back']
      when 'deprovisioned' then array_agg(e.type order by e.position) <> array['provisioning.completed', 'service.deprovisioned']
      else true end`,
  'each state follows from the one before': `
    select key as id from (
      select key, data::json->>'from' as was, lag(data::json->>'to') over (partition by key order by position) as before
      from events where type = 'request.state-changed'
    ) moves where was is distinct from before`,
  'a step is done once': `
    select key as id from events where type = 'provisioning.step-completed'
    group by key, data::json->>'step' having count(*) <> 1`,
  'a completed server has each of its resources, once': `
    select r.id from requests r join attempts a on a.request_id = r.id
      left join simulated_resources s on split_part(s.name, '/', 1) = a.saga_id
    where r.state = 'completed' group by r.id having count(s.name) <> $1 or count(distinct s.kind) <> $1`,
  'nothing is held for nobody': `
    select s.name as id from simulated_resources s
      left join attempts a on a.saga_id = split_part(s.name, '/', 1)
      left join requests r on r.id = a.request_id and r.state = 'completed'
    where r.id is null`,
  'a resource is made once, and is not made again when it was removed': `
    select name as id from storm.effects where effect = 'made' group by kind, name having count(*) > 1`,
  'nobody makes what is there': `
    select name as id from storm.effects group by kind, name
    having count(*) filter (where effect = 'asked') <> count(*) filter (where effect = 'made')`,
  'nothing that a completed server is made of was ever removed': `
    select e.name as id from storm.effects e join attempts a on a.saga_id = split_part(e.name, '/', 1)
      join requests r on r.id = a.request_id where e.effect = 'removed' and r.state = 'completed'`,
  'each tenant has in use what its completed servers are': `
    select q.holder_id as id from quotas q where q.holder_kind = 'tenant' and q.used_servers <>
      (select count(*) from requests r where r.tenant_id = q.holder_id and r.state = 'completed')`,
  'positions have no gaps': `
    select 'events' as id from events having count(*) <> max(position) or count(*) <> count(position)`,
};

/** Every claim that does not hold, with the first few that break it. */
export async function brokenClaims(database: Pool, resourcesOfEach: number): Promise<string[]> {
  const broken: string[] = [];
  for (const [claim, query] of Object.entries(claims)) {
    const parameters = query.includes('$1') ? [resourcesOfEach] : [];
    const { rows } = await database.query<{ id: string }>(query, parameters);
    const some = rows.slice(0, 3).map(({ id }) => id);
    if (rows.length > 0) broken.push(`${claim}: not for ${rows.length}, such as ${some.join(', ')}`);
  }
  return broken;
}
