import { sql } from 'kysely';
import type { Kysely } from 'kysely';
import type { Test } from 'tap';
import { test } from 'tap';

import { silentLog } from '../kernel/log.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import type { Engine } from './engine.ts';
import { migrate, migrations } from './migrate.ts';
import type { Migration } from './migrate.ts';
import { openStore } from './open.ts';
import { openPostgres } from './postgres.ts';
import { openSqlite } from './sqlite.ts';
import { sqliteUrl, testDatabases } from './test-stores.ts';

const AT = Date.UTC(2026, 0, 1);

test('migrations are numbered from 1 without gaps', (t) => {
  t.same(
    migrations.map(({ number }) => number),
    migrations.map((_, index) => index + 1),
  );
  t.end();
});

eachEngine('each migration runs once, in order, and is recorded with its name and time', async (t, engine) => {
  const ran: number[] = [];
  const step = (number: number): Migration => ({
    number,
    name: `step-${number}`,
    up: async (db) => {
      ran.push(number);
      await sql.raw(`create table made_by_${number} (id text)`).execute(db);
    },
  });
  await run(engine, [step(1)]);
  await run(engine, [step(1), step(2), step(3)]);
  await run(engine, [step(1), step(2), step(3)]);
  t.same(ran, [1, 2, 3]);
  t.same(
    await records(engine),
    [1, 2, 3].map((number) => ({ number, name: `step-${number}`, applied_at: AT })),
  );
});

eachEngine('a migration that fails leaves nothing of itself and keeps those before it', async (t, engine) => {
  const good: Migration = { number: 1, name: 'good', up: (db) => createTable(db, 'good') };
  const bad: Migration = {
    number: 2,
    name: 'bad',
    up: async (db) => {
      await createTable(db, 'half');
      throw new Error('out of ideas');
    },
  };
  await t.rejects(run(engine, [good, bad]), { message: 'out of ideas' });
  t.match(await records(engine), [{ number: 1 }]);
  const tables = (await engine.reader.introspection.getTables()).map(({ name }) => name);
  t.same(tables.sort(), ['good', 'schema_migrations']);
  await run(engine, [good, { ...bad, up: (db) => createTable(db, 'half') }]);
  t.match(await records(engine), [{ number: 1 }, { number: 2 }]);
});

eachEngine('what tenants had before there were projects is theirs afterwards', async (t, engine) => {
  await run(engine, migrations.slice(0, 2));
  const before = [
    `insert into tenants (id, name, created_at) values ('ten_1', 'acme', 5)`,
    `insert into quotas values ('ten_1', 100, 200, 300, 400, 1, 2, 3, 4)`,
    `insert into api_keys values ('key_1', 'ten_1', 'member', 'ci', 'ab', 6, null)`,
    `insert into api_keys values ('key_2', null, 'operator', 'root', 'cd', 7, 8)`,
    `insert into regions values ('reg_1', 'west')`,
    `insert into flavors values ('flv_1', 'small', 2, 3, 4, 'same')`,
    `insert into images values ('img_1', 'debian', '12', 'ef', 1, 1, 'raw+zstd', 1, 'ext4', '', 0)`,
    `insert into requests values ('srv_9', 'ten_1', 'shop', 'bare-metal', 'web', 'reg_1', 'flv_1', 'img_1', '{}', 'completed',
      null, null, null, null, 'key_1', 0, 0, 0, null)`,
  ];
  for (const statement of before) await sql.raw(statement).execute(engine.writer!);
  await run(engine, migrations);
  const rows = async (query: string) => (await sql.raw(query).execute(engine.reader)).rows;
  t.same(await rows('select id, tenant_id, name from projects order by name'), [
    { id: 'prj_1', tenant_id: 'ten_1', name: 'default' },
    { id: 'prj_9', tenant_id: 'ten_1', name: 'shop' },
  ]);
  const limits = { tenant_id: 'ten_1', max_servers: 100, max_cores: 200, max_memory_mib: 300, max_disk_gib: 400 };
  const [used, none] = [
    { used_servers: 1, used_cores: 2, used_memory_mib: 3, used_disk_gib: 4 },
    { used_servers: 0, used_cores: 0, used_memory_mib: 0, used_disk_gib: 0 },
  ];
  t.same(await rows('select * from quotas order by holder_kind desc, holder_id'), [
    { holder_kind: 'tenant', holder_id: 'ten_1', ...limits, ...used },
    { holder_kind: 'project', holder_id: 'prj_1', ...limits, ...none },
    { holder_kind: 'project', holder_id: 'prj_9', ...limits, ...used },
  ]);
  t.match(await rows('select * from api_keys order by id'), [
    {
      id: 'key_1',
      tenant_id: 'ten_1',
      role: 'member',
      scopes: '["*"]',
      expires_at: null,
      revoked_at: null,
    },
    { id: 'key_2', tenant_id: null, role: 'operator', revoked_at: 8 },
  ]);
  t.same(await rows('select * from api_key_secrets order by hmac'), [
    { hmac: 'ab', key_id: 'key_1', generation: 1, created_at: 6, valid_until: null },
    { hmac: 'cd', key_id: 'key_2', generation: 1, created_at: 7, valid_until: null },
  ]);
  t.match(await rows('select * from requests'), [{ id: 'srv_9', project_id: 'prj_9' }]);
});

eachEngine('rules stay what they were, and may go by a switch port alone afterwards', async (t, engine) => {
  await run(engine, migrations.slice(0, 17));
  const write = (statement: string) => sql.raw(statement).execute(engine.writer!);
  const rule = (id: string, columns: string, values: string) =>
    write(`insert into accept_rules (id, name, rack_id, name_prefix, nic_role, bmc_network, bmc_kind, bmc_port, bmc_username,
      bmc_password, bmc_cipher_suite, created_at${columns}) values ('${id}', '${id}', 'rck_1', 'a-', 'both', '10.9.0.0/24', 'ipmi',
      623, 'admin', 'sealed', 17, 5${values})`);
  await write(`insert into regions values ('reg_1', 'west')`);
  await write(`insert into racks (id, region_id, name) values ('rck_1', 'reg_1', 'r1')`);
  await rule('rul_1', ', mac_prefix, model', `, '52:54:00', 'R6*'`);
  await run(engine, migrations);
  await rule('rul_2', ', switch_port', `, 'leaf-3/*'`);
  await t.rejects(rule('rul_3', '', ''), 'a rule names something');
  await t.rejects(rule('rul_2', ', model', `, 'R7'`), 'and has a name of its own');
  const { rows } = await sql.raw('select * from accept_rules order by id').execute(engine.reader);
  t.match(rows, [
    { id: 'rul_1', mac_prefix: '52:54:00', model: 'R6*', bmc_password: 'sealed', created_at: 5, switch_port: null },
    { id: 'rul_2', mac_prefix: null, switch_port: 'leaf-3/*' },
  ]);
});

eachEngine(
  'images stay what servers were ordered with; a name is free again once they are deleted',
  async (t, engine) => {
    await run(engine, migrations.slice(0, 3));
    const write = (statement: string) => sql.raw(statement).execute(engine.writer!);
    for (const statement of [
      `insert into tenants (id, name, created_at) values ('ten_1', 'acme', 5)`,
      `insert into regions values ('reg_1', 'west')`,
      `insert into flavors values ('flv_1', 'small', 2, 3, 4, 'same')`,
      `insert into images values ('img_1', 'debian', '12', 'ef', 1, 2, 'chunks', 1, 'ext4', 'quiet', 3, 4, 'ab')`,
      // As one file, before there were chunks.
      `insert into images values ('img_2', 'debian', '11', 'cd', 1, 2, 'raw+zstd', 1, 'ext4', 'quiet', 3, null, null)`,
      `insert into requests (id, tenant_id, provider, hostname, region_id, flavor_id, image_id, params, state, created_by,
      created_at, updated_at) values ('srv_1', 'ten_1', '', 'web', 'reg_1', 'flv_1', 'img_1', '{}', 'queued', 'key_1', 0, 0)`,
    ])
      await write(statement);
    await run(engine, migrations);
    const image = { tenant_id: null, name: 'debian', version: '12', bytes: 1, raw_bytes: 2 };
    const { rows } = await sql.raw('select * from images order by id').execute(engine.reader);
    t.match(rows, [
      { ...image, id: 'img_1', sha256: 'ef', created_at: 3, map_bytes: 4, source_sha256: 'ab', deleted_at: null },
      { ...image, id: 'img_2', version: '11', sha256: 'cd', source_sha256: 'cd', created_at: 3, deleted_at: 3 },
    ]);
    await t.rejects(write(`delete from images`), 'requests still refer to it');
    await t.rejects(
      write(`insert into requests (id, tenant_id, provider, hostname, region_id, flavor_id, image_id, params, state,
    created_by, created_at, updated_at) values ('srv_2', 'ten_1', '', 'web', 'reg_1', 'flv_1', 'none', '{}', 'queued', 'key_1', 0, 0)`),
    );
    const again = (id: string, tenant: string) =>
      write(`insert into images (id, tenant_id, name, version, sha256, bytes, raw_bytes, root_partition, root_fs, kernel_args,
      created_at, map_bytes, source_sha256) values ('${id}', ${tenant}, 'debian', '12', 'ef', 1, 2, 1, 'xfs', '', 3, 4, 'ab')`);
    await t.rejects(again('img_6', 'null'));
    await again('img_3', `'ten_1'`);
    await t.rejects(again('img_4', `'ten_1'`));
    await write(`update images set deleted_at = 7`);
    await again('img_5', 'null');
  },
);

test('daemons that start together on one PostgreSQL database do not collide', async (t) => {
  const databases = await testDatabases();
  if (typeof databases === 'string') {
    t.plan(0, databases);
    return;
  }
  const url = await databases.createEmpty();
  const opening = [1, 2, 3].map(() => openStore({ url, clock: new ManualClock(), log: silentLog }));
  for (const store of await Promise.all(opening)) await store.close();
  t.pass('all three opened');
});

async function run({ writer, lockSchema }: Engine, steps: readonly Migration[]): Promise<void> {
  await migrate(writer!, { lockSchema, clock: new ManualClock(AT), log: silentLog }, steps);
}

async function records({ reader }: Engine): Promise<unknown[]> {
  return (await sql`select number, name, applied_at from schema_migrations order by number`.execute(reader)).rows;
}

async function createTable(db: Kysely<unknown>, name: string): Promise<void> {
  await db.schema.createTable(name).addColumn('id', 'text').execute();
}

function eachEngine(name: string, work: (t: Test, engine: Engine) => Promise<void>): void {
  void test(`${name} (sqlite)`, async (t) => {
    const engine = openSqlite(sqliteUrl(t).slice('sqlite:'.length), 'write');
    t.teardown(() => engine.close());
    await work(t, engine);
  });
  void test(`${name} (postgres)`, async (t) => {
    const databases = await testDatabases();
    if (typeof databases === 'string') {
      t.plan(0, databases);
      return;
    }
    const url = await databases.createEmpty();
    const engine = await openPostgres({ url, password: undefined }, 'write', silentLog);
    t.teardown(() => engine.close());
    await work(t, engine);
  });
}
