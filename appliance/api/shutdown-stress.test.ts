import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';

import { until } from '../../lab/process/until.ts';
import { parseConfig } from '../config.ts';
import { systemClock } from '../kernel/clock.ts';
import { silentLog } from '../kernel/log.ts';
import { openStore } from '../store/open.ts';
import { StressedDaemon } from './stressed-daemon.fixture.ts';

const HOUR = 3_600_000;

test('SIGTERM begins nothing new, lets running steps end in their time, and gives every lease back', async (t) => {
  const settings = { deadlines: { shutdown: 5_000 } };
  const daemon = await StressedDaemon.start(t, {
    settings,
    clusters: { slow: { create: 1_000 }, endless: { create: HOUR } },
  });
  const [slow, endless] = [...(await daemon.order(1, 'slow')), ...(await daemon.order(1, 'endless'))].map(idOf);
  await until('both are being allocated', 10_000, async () => {
    const both = [await daemon.steps(slow!), await daemon.steps(endless!)];
    return both.every(({ allocate }) => allocate?.status === 'running') || null;
  });

  const stopping = daemon.stop();
  // Asked for what is there: an order that came before the signal would be begun.
  await until('the API takes nothing any more', 5_000, () =>
    daemon.states().then(
      () => null,
      () => true,
    ),
  );
  t.equal(await stopping, 0);

  const store = await openStore({
    url: `sqlite:${join(daemon.state, 'rackstart.db')}`,
    clock: systemClock,
    log: silentLog,
    mode: 'read',
  });
  const sagas = await store.read.selectFrom('sagas').select(['state', 'owner']).execute();
  t.ok(sagas.length >= 2);
  t.same(new Set(sagas.map(({ owner }) => owner)), new Set([null]), 'nobody has to wait for a lease to run out');
  const steps = await store.read.selectFrom('saga_steps').select(['name', 'state', 'tries', 'error']).execute();
  const failed = steps.filter(({ error, tries }) => error !== null || tries > 1);
  t.same(failed, [], 'to be told to stop is no failure');
  t.same(
    steps.map(({ name, state }) => `${name} ${state}`).sort(),
    ['allocate done', 'allocate started'],
    'one has ended in its time; no other was begun',
  );
  await store.close();

  await daemon.resume();
  await daemon.untilAll([slow!], ['completed']);
  t.match(await daemon.steps(endless!), { allocate: { status: 'running' } }, 'taken up at once');
  await daemon.doctor();
});

test('systemd waits longer for the end than running steps have time to', (t) => {
  const unit = readFileSync(join(import.meta.dirname, '../../systemd/rackstart.service'), 'utf8');
  const seconds = Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)?.[1]);
  const { deadlines } = parseConfig('{ state: s, ramdisk: r, provisioning: [], api: {} }', '/etc/rackstart', {});
  t.ok(seconds * 1_000 > deadlines.shutdown + 10_000, `${String(seconds)} s`);
  t.end();
});

function idOf({ body }: { body: unknown }): string {
  return (body as { id: string }).id;
}
