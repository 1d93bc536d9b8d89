import { test } from 'tap';

import { place } from './cli.fixture.ts';

test('what nobody owns is listed, and today that is nothing', async (t) => {
  const here = place(t);
  const served = await here.serve();
  t.match(await served.ask(['orphans']), { code: 0, out: /^PROVIDER +CLUSTER +KIND +ID .*\n$/ });
  t.match(JSON.parse((await served.ask(['orphans', '--json'])).out), { orphans: [] });
});
