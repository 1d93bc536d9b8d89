import { spawnSync } from 'node:child_process';
import { test } from 'tap';

import type { Reply } from './stressed-daemon.fixture.ts';
import { StressedDaemon, keepAsking, tally } from './stressed-daemon.fixture.ts';

const skip = spawnSync('strace', ['--version']).error !== undefined && 'no strace';

test('on a disk that takes half a second to sync whoever writes waits, and nobody else', { skip }, async (t) => {
  const daemon = await StressedDaemon.start(t);
  const before = await daemon.order(15);
  const ids = before.map(({ body }) => (body as { id: string }).id);
  const memory = daemon.residentMib();

  const slow = await daemon.slowDisk(t, 500);
  let free = 0;
  for (let round = 1; round <= 5; round += 1) {
    const { reply, reads } = await readsMeanwhile(daemon);
    t.equal(reply.status, 202);
    ids.push((reply.body as { id: string }).id);
    if (reads >= 20) free += 1;
  }
  // SQLite itself syncs now and then, within a commit: when its log begins anew.
  t.ok(free >= 4, `in ${String(free)} of 5 rounds 20 others were answered while an order was on its way to the disk`);
  const syncs = slow.synced();
  const { writes, reads } = await keepAsking(daemon, 2_000);
  t.same([...tally(writes).keys()], ['202'], 'late, but all of them');
  t.same([...tally(reads).keys()], ['200']);
  t.ok(writes.length > slow.synced() - syncs, 'those that come together are synced together');
  t.ok(daemon.residentMib() < memory + 150, 'nothing piles up');
  ids.push(...writes.map(({ body }) => (body as { id: string }).id));
  await slow.end();

  await daemon.untilAll(ids, ['completed'], 30_000);
  t.equal((await daemon.states()).size, ids.length, 'each was ordered once');
  await daemon.doctor();
  t.equal(await daemon.stop(), 0);
});

/** One order, and how many reads were answered, one after the other, until it was. */
async function readsMeanwhile(daemon: StressedDaemon): Promise<{ reply: Reply; reads: number }> {
  let reply: Reply | undefined;
  const ordered = daemon.order(1).then(([answer]) => (reply = answer!));
  for (let reads = 0; ; reads += 1) {
    await daemon.call('GET', '/tenants');
    if (reply !== undefined) return { reply: await ordered, reads };
  }
}
