import { test } from 'tap';

import { place } from './cli.fixture.ts';

test('what is stuck is listed; what is not stuck does not go on', async (t) => {
  const here = place(t);
  const served = await here.serve();
  t.match(await served.ask(['stuck', 'list']), { code: 0, out: /^ID +SAGA +STEP .*\n$/ });
  t.match(JSON.parse((await served.ask(['stuck', 'list', '--json'])).out), { stuck: [] });
  t.match(await served.ask(['stuck', 'retry', 'saga_1', '--reason', 'a new BMC']), {
    code: 1,
    err: /Nothing that is stuck has the id saga_1/,
  });
  t.match((await served.ask(['stuck', 'skip', 'saga_1'])).err, /--reason/, 'for no reason');
  t.equal((await served.stop()).code, 0);
});
