import { test } from 'tap';

import { StressedDaemon } from './stressed-daemon.fixture.ts';

test('an operator who wants nothing to be tried again is heeded, also where a failure would pass', async (t) => {
  const settings = { retry: { attempts: 0 } };
  const daemon = await StressedDaemon.start(t, { settings, clusters: { shaky: { fails: { passing: 1 } } } });
  const [order] = await daemon.order(1, 'shaky');
  const { id } = order?.body as { id: string };
  await daemon.untilAll([id], ['rolled-back']);
  const { allocate, ...others } = await daemon.steps(id);
  t.match(allocate, { status: 'rolled-back', attempts: 1, reason: { code: 'provider.unavailable' } });
  t.same(
    Object.values(others).map(({ attempts }) => attempts),
    [0, 0, 0],
  );
  await daemon.doctor();
  t.equal(await daemon.stop(), 0);
});
