import pg from 'pg';
import { test } from 'tap';

import { postgresMissing, startPostgres } from '../test/postgres.ts';
import { recordEffects } from './effects.ts';
import { brokenClaims, claims } from './outcomes.ts';

/** What the claims read, and no more: one server that was made and one order that was undone, as they should be. */
const healthy = `
  create table requests (id text, tenant_id text, state text);
  create table attempts (id text, request_id text, saga_id text);
  create table quotas (holder_kind text, holder_id text, used_servers int);
  create table events (id text, position int, type text, key text, data text);
  create table simulated_resources (kind text, name text, primary key (kind, name));
  insert into requests values ('made', 't', 'completed'), ('undone', 't', 'rolled-back');
  insert into attempts values ('a1', 'made', 's1'), ('a2', 'undone', 's2');
  insert into quotas values ('tenant', 't', 1);
  insert into events values
    ('e1', 1, 'request.state-changed', 'made', '{"from":null,"to":"queued"}'),
    ('e2', 2, 'request.state-changed', 'undone', '{"from":null,"to":"queued"}'),
    ('e3', 3, 'provisioning.step-completed', 'made', '{"step":"allocate"}'),
    ('e4', 4, 'request.state-changed', 'made', '{"from":"queued","to":"completed"}'),
    ('e5', 5, 'provisioning.rolled-back', 'undone', '{}'),
    ('e6', 6, 'provisioning.completed', 'made', '{}');
`;
const effects = `
  insert into simulated_resources values ('vm', 's1/vm'), ('disk', 's1/disk'), ('vm', 's2/vm');
  delete from simulated_resources where name = 's2/vm';
`;
const RESOURCES = 2;

/** For each claim something that must not happen, and breaks it. */
const breaches: Readonly<Record<string, string>> = {
  'a request has one attempt': `insert into attempts values ('a3', 'made', 's3')`,
  'a request has exactly one outcome': `delete from events where id = 'e6'`,
  'a request that is completed was not undone': `update events set type = 'provisioning.completed' where id = 'e5'`,
  'each state follows': `update events set data = '{"from":"allocating","to":"completed"}' where id = 'e4'`,
  'a step is done once': `insert into events values ('e7', 7, 'provisioning.step-completed', 'made', '{"step":"allocate"}')`,
  'a completed server has each of its resources': `delete from simulated_resources where name = 's1/disk'`,
  'nothing is held for nobody': `insert into simulated_resources values ('vm', 's2/vm')`,
  'a resource is made once': `delete from simulated_resources; insert into simulated_resources values ('vm', 's1/vm')`,
  'nobody makes what is there': `insert into simulated_resources values ('vm', 's1/vm') on conflict do nothing`,
  'nothing that a completed server is made of': `delete from simulated_resources where name = 's1/disk'`,
  'each tenant has in use': `update quotas set used_servers = 2`,
  'positions have no gaps': `update events set position = 8 where id = 'e6'`,
};

test('each claim about the outcomes of a storm holds where all is well, and fails where it is not', async (t) => {
  const missing = postgresMissing();
  if (missing !== undefined) {
    t.plan(0, missing);
    return;
  }
  const postgres = await startPostgres();
  const database = new pg.Pool({ connectionString: postgres.url, max: 1 });
  database.on('error', () => undefined);
  t.teardown(() => Promise.all([database.end(), postgres.stop()]));
  await database.query(healthy);
  await recordEffects(database);
  await database.query(effects);
  t.same(await brokenClaims(database, RESOURCES), []);
  const found = new Set<string>();
  for (const [claim, breach] of Object.entries(breaches)) {
    await database.query(`begin; ${breach}`);
    const broken = await brokenClaims(database, RESOURCES);
    await database.query('rollback');
    t.ok(
      broken.some((one) => one.startsWith(claim)),
      claim,
    );
    for (const one of broken) found.add(one.split(':')[0] ?? '');
  }
  t.same([...found].sort(), Object.keys(claims).sort(), 'no claim is without a breach');
});
