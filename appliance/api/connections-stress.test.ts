import pg from 'pg';
import { test } from 'tap';
import type { Test } from 'tap';

import { postgresMissing, startPostgres } from '../../lab/test/postgres.ts';
import { StressedDaemon, tally } from './stressed-daemon.fixture.ts';

const skip = postgresMissing() ?? false;

test('with fewer connections than it would like the daemon works on; with none it says so', { skip }, async (t) => {
  // 3 of them are for superusers, which the daemon is not.
  const server = await startPostgres({ settings: { max_connections: '14' } });
  t.teardown(() => server.stop());
  const admin = new pg.Client({ connectionString: server.url });
  await admin.connect();
  t.teardown(() => admin.end());
  await admin.query('create role rackstart login');
  await admin.query('create database rackstart owner rackstart');
  const url = new URL(server.url);
  url.username = 'rackstart';
  url.pathname = '/rackstart';

  // Its 8 writers and 4 readers are more than there are: 5 of the 10 are somebody else's.
  const others = [];
  for (let number = 1; number <= 5; number += 1) others.push(await connection(t, url.href));
  const daemon = await StressedDaemon.start(t, { store: url.href });
  const orders = await daemon.order(20);
  t.same([...tally(orders).keys()], ['202'], 'all find one of the connections that there are');
  await daemon.untilAll(
    orders.map(({ body }) => (body as { id: string }).id),
    ['completed'],
    30_000,
  );

  // And now none is left for it.
  const its = "from pg_stat_activity where application_name = 'rackstart'";
  for (let left = 1; left > 0;) {
    await admin.query(`select pg_terminate_backend(pid) ${its}`);
    try {
      for (;;) others.push(await connection(t, url.href));
    } catch (error) {
      if ((error as pg.DatabaseError).code !== '53300') throw error;
    }
    left = (await admin.query<{ count: number }>(`select count(*)::int as count ${its}`)).rows[0]?.count ?? 0;
  }
  t.match((await daemon.order(1))[0], { status: 503, code: 'store.unavailable', retryAfter: '5' });
  await Promise.all(others.map((client) => client.end()));
  t.equal((await daemon.order(1))[0]?.status, 202, 'at once when there is room again');
  await daemon.doctor();
  t.equal(await daemon.stop(), 0);
});

/** One that does nothing. */
async function connection(t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  // The server may end before the test does.
  client.on('error', () => undefined);
  await client.connect();
  t.teardown(() => client.end());
  return client;
}
