import { test } from 'tap';

import { place } from './cli.fixture.ts';

test('a daemon that keeps no pool lists none', async (t) => {
  const here = place(t);
  const served = await here.serve();
  t.match(await served.ask(['pools']), { code: 0, out: /^REGION +FLAVOR +READY +TARGET .*\n$/ });
  t.same(JSON.parse((await served.ask(['pools', '--json'])).out), { pools: [] });
  t.equal((await served.stop()).code, 0);
});
