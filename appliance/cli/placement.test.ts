import { test } from 'tap';

import { place } from './cli.fixture.ts';
import { placementText } from './placement.ts';

test('a dry run of a placement tells what would be taken, what each filter left, and how the best compare', (t) => {
  t.equal(
    placementText({
      ...{ region: 'west', flavor: 'small', free: 9, notFree: { deployed: 12, dirty: 1 } },
      filters: [
        { filter: 'too-few-cores', passed: 3, leftOut: 6, examples: ['m1', 'm2\u001b[2J'] },
        { filter: 'tried-before', passed: 3, leftOut: 0, examples: [] },
      ],
      ...{ emptiedBy: null, chosen: 'm7' },
      best: [
        { machine: 'm7', total: 0.597, terms: { waste: 0.597 } },
        { machine: 'm8', total: 110.5, terms: { 'tenant-in-rack': 100, cold: 10, waste: 0.5 } },
      ],
    }),
    `would take  m7
free        9
not free    12 deployed, 1 dirty

FILTER         LEAVES  LEFT OUT  SUCH AS
too-few-cores  3       6         m1 m2?[2J ...
tried-before   3       0         -

MACHINE  WEIGHS  FOR
m7       0.60    waste 0.60
m8       110.50  tenant-in-rack 100, cold 10, waste 0.50
`,
  );
  const nothing = { region: 'west', flavor: 'small', free: 0, notFree: {}, filters: [], chosen: null, best: [] };
  t.match(placementText({ ...nothing, emptiedBy: null }), /^would take  none: no machine is free$/m);
  t.match(placementText({ ...nothing, emptiedBy: 'too-few-nics' }), /none: the last were left out as too-few-nics$/m);
  t.end();
});

test('placement asks the daemon, for a tenant by its name', async (t) => {
  const here = place(t);
  const served = await here.serve();
  for (const words of [
    ['region', 'add', 'west'],
    ['tenant', 'add', 'acme'],
    ['flavor', 'add', 'small', '--cores', '1', '--memory-mib', '512', '--disk-gib', '3'],
  ])
    t.equal((await served.ask(words)).code, 0);
  const asked = await served.ask(['placement', '--region', 'west', '--flavor', 'small', '--tenant', 'acme']);
  t.match(asked, { code: 0, out: /^would take  none: no machine is free\nfree        0\n/ });
  t.match((await served.ask(['placement', '--region', 'moon', '--flavor', 'small'])).err, /There is no such region/);
  await served.stop();
});
