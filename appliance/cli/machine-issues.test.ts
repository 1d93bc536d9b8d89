import { test } from 'tap';

import { place } from './cli.fixture.ts';
import { issueText } from './machine-issues.ts';

const issue = {
  type: 'disk-missing',
  severity: 'critical',
  message: 'sdb\u001b[2J is gone',
  remedy: 'Seat the disk again.',
  raisedAt: '2026-01-01T00:00:00.000Z',
  seenAt: '2026-01-02T00:00:00.000Z',
  resolvedAt: null,
  resolvedBy: null,
};

test('issues are told with what to do about those that are open', async (t) => {
  const resolved = { ...issue, type: 'nic-slow', resolvedAt: '2026-01-03T00:00:00.000Z', resolvedBy: 'check' };
  t.equal(
    issueText([issue, resolved]),
    [
      'ISSUE         SEVERITY  RAISED                    SEEN                      RESOLVED                           WHAT WAS FOUND',
      'disk-missing  critical  2026-01-01T00:00:00.000Z  2026-01-02T00:00:00.000Z  -                                  sdb?[2J is gone',
      'nic-slow      critical  2026-01-01T00:00:00.000Z  2026-01-02T00:00:00.000Z  2026-01-03T00:00:00.000Z by check  sdb?[2J is gone',
      '',
      'disk-missing: Seat the disk again.',
      '',
    ].join('\n'),
  );
});

test('issues and wipes of a machine are asked for by its name', async (t) => {
  const here = place(t);
  const served = await here.serve();
  t.match(await served.ask(['machine', 'issues', 'm9']), { code: 1, err: /m9/ });
  t.match(await served.ask(['machine', 'resolve', 'm9', 'clock-off']), { err: /--reason/ });
  t.match(await served.ask(['machine', 'wipes', 'm9']), { code: 1, err: /m9/ });
  t.equal((await served.stop()).code, 0);
});
