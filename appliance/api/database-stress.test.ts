import { test } from 'tap';

import { postgresMissing, startPostgres } from '../../lab/test/postgres.ts';
import { StressedDaemon, keepAsking, tally } from './stressed-daemon.fixture.ts';

const skip = postgresMissing() ?? false;

test('a PostgreSQL that goes and comes back is missed, and nothing is lost by it', { skip }, async (t) => {
  const server = await startPostgres();
  t.teardown(() => server.stop());
  const daemon = await StressedDaemon.start(t, { store: server.url });
  const before = await daemon.order(15);
  const ids = before.map(({ body }) => (body as { id: string }).id);
  const memory = daemon.residentMib();
  const lines = daemon.logged().length;

  const halting = server.halt();
  const { writes, reads, seconds } = await keepAsking(daemon, 3_000);
  await halting;
  // Those that were answered before it was gone are orders like all others.
  const admitted = writes.flatMap(({ status, body }) => (status === 202 ? [(body as { id: string }).id] : []));
  for (const replies of [writes, reads]) {
    const answers = [...tally(replies).keys()].filter((answer) => !answer.startsWith('20'));
    t.same(answers, ['503 store.unavailable retry-after 5'], 'who is refused is told when to come back');
  }
  t.ok(writes.length - admitted.length > 50, `${String(writes.length)} orders, ${String(admitted.length)} admitted`);
  const told = daemon.logged().length - lines;
  t.ok(told < 60 + 10 * seconds, `${String(told)} lines in ${String(seconds)} s`);
  t.ok(daemon.residentMib() < memory + 150, 'nothing piles up');

  await server.resume();
  await daemon.untilAll([...ids, ...admitted], ['completed'], 20_000);
  const unknown = writes.filter(({ body }) => JSON.stringify(body).includes('"commit":"unknown"')).length;
  const all = await daemon.states();
  const most = ids.length + admitted.length + unknown;
  t.ok(all.size <= most, `${String(all.size)} requests of ${String(most)}: what was refused is not there`);
  await daemon.untilAll([...all.keys()], ['completed']);
  t.equal((await daemon.order(1))[0]?.status, 202);
  const positions = await daemon.positions();
  t.same(
    positions,
    positions.map((_, index) => index + 1),
    'the log of events has no gap',
  );
  await daemon.doctor();
  t.equal(await daemon.stop(), 0);
});
