import { test } from 'tap';

import { postgresMissing, startPostgres } from '../../lab/test/postgres.ts';
import { StressedDaemon, tally } from './stressed-daemon.fixture.ts';

const skip = postgresMissing() ?? false;

test('a PostgreSQL that takes every call and answers none is given up in time', { skip }, async (t) => {
  const server = await startPostgres();
  t.teardown(() => server.stop());
  // It waits 35 s for an answer unless the URL says otherwise.
  const daemon = await StressedDaemon.start(t, { store: `${server.url}&query_timeout=1000` });
  const before = await daemon.order(15);
  const ids = before.map(({ body }) => (body as { id: string }).id);
  const memory = daemon.residentMib();
  const lines = daemon.logged().length;

  server.freeze();
  t.teardown(() => server.thaw());
  // The first ones on connections that it has, the others waiting for one, or for a new one: that takes 10 s.
  const writing = daemon.order(20);
  const reads = await Promise.all(Array.from({ length: 20 }, () => daemon.call('GET', '/tenants')));
  const writes = await writing;
  for (const replies of [writes, reads]) {
    t.same([...tally(replies).keys()], ['503 store.unavailable retry-after 5'], 'who waited is told when to come back');
  }
  const told = daemon.logged().length - lines;
  t.ok(told < 150, `${String(told)} lines`);
  t.ok(daemon.residentMib() < memory + 150, 'nothing piles up');

  server.thaw();
  await daemon.untilAll(ids, ['completed'], 30_000);
  // One whose commit was on its way is done when the server goes on; its caller was told that nobody knows.
  const unknown = writes.filter(({ body }) => JSON.stringify(body).includes('"commit":"unknown"')).length;
  const all = await daemon.states();
  t.ok(all.size <= ids.length + unknown, `${String(all.size)} requests, ${String(unknown)} of unknown outcome`);
  t.equal((await daemon.order(1))[0]?.status, 202);
  await daemon.untilAll([...all.keys()], ['completed']);
  const positions = await daemon.positions();
  t.same(
    positions,
    positions.map((_, index) => index + 1),
    'the log of events has no gap',
  );
  await daemon.doctor();
  t.equal(await daemon.stop(), 0);
});
