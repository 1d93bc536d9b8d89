import { test } from 'tap';

import { place } from './cli.fixture.ts';

test('a daemon that has called nobody lists no clusters', async (t) => {
  const here = place(t);
  const served = await here.serve();
  t.match(await served.ask(['guards']), { code: 0, out: /^CLUSTER +CIRCUIT +SINCE +TRIED AGAIN .*\n$/ });
  t.same(JSON.parse((await served.ask(['guards', '--json'])).out), { guards: [] });
  t.equal((await served.stop()).code, 0);
});
