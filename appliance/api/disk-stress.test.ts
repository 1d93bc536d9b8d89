import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';

import { StressedDaemon, keepAsking, tally } from './stressed-daemon.fixture.ts';

const noMount = process.getuid?.() !== 0 && 'a small file system of its own needs root';

test(
  'a full disk refuses what is new, and what was under way goes on by itself once there is room',
  { skip: noMount },
  async (t) => {
    const daemon = await StressedDaemon.start(t, { diskMib: 12 });
    const before = await daemon.order(15);
    const ids = before.map(({ body }) => (body as { id: string }).id);
    const memory = daemon.residentMib();
    const lines = daemon.logged().length;

    fill(join(daemon.state, 'filler'));
    const { writes, reads, seconds } = await keepAsking(daemon, 3_000);
    t.same([...tally(writes).keys()], ['503 store.unavailable retry-after 5'], 'every order is refused');
    t.same([...tally(reads).keys()], ['200'], 'every read is answered');
    t.ok(writes.length > 50, `${String(writes.length)} orders were refused`);
    const told = daemon.logged().slice(lines);
    const ofSteps = told.filter((line) => /"msg":"(step (started|done|failed)|the saga rests)"/.test(line)).length;
    // What is under way has four steps, of which each begins and ends, until one can't.
    t.ok(ofSteps <= 10 * before.length, `${String(ofSteps)} lines of what was under way`);
    t.ok(told.length - ofSteps < 10 + 10 * seconds, `${String(told.length - ofSteps)} others in ${String(seconds)} s`);
    t.match(await daemon.addImage('13', 64), { status: 507, code: 'image.store-full' }, 'an image');
    t.ok(daemon.residentMib() < memory + 150, 'nothing piles up');
    await t.resolves(daemon.doctor(), 'nothing is half done');

    rmSync(join(daemon.state, 'filler'));
    // Not when leases of 30 s have run out.
    await daemon.untilAll(ids, ['completed'], 15_000);
    const [after] = await daemon.order(1);
    t.equal(after?.status, 202);
    t.equal((await daemon.addImage('13', 64)).status, 201);
    await daemon.untilAll([(after?.body as { id: string }).id], ['completed']);
    t.equal((await daemon.states()).size, 16, 'what was refused is not there');
    const positions = await daemon.positions();
    t.same(
      positions,
      positions.map((_, index) => index + 1),
      'the log of events has no gap',
    );
    await t.resolves(daemon.doctor());
    t.equal(await daemon.stop(), 0);
  },
);

/** Until not a byte more fits. */
function fill(path: string): void {
  const file = openSync(path, 'w');
  try {
    for (const bytes of [65_536, 4_096, 1]) fillWith(file, Buffer.alloc(bytes, 1));
  } finally {
    closeSync(file);
  }
}

function fillWith(file: number, bytes: Buffer): void {
  try {
    while (writeSync(file, bytes) === bytes.length);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  }
}
