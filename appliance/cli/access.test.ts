import { test } from 'tap';

import { place } from './cli.fixture.ts';

test('what waits for a person is listed; what waits for nobody cannot be entered', async (t) => {
  const here = place(t);
  const served = await here.serve();
  t.match(await served.ask(['access', 'list']), { code: 0, out: /^ID +SERVER +HOSTNAME .*\n$/ });
  t.same(JSON.parse((await served.ask(['access', 'list', '--json'])).out), { entries: [] });
  const enter = ['access', 'enter', 'att_1', '--no-verify'];
  t.match(await served.ask([...enter, '--address', '198.51.100.7']), { code: 1, err: /att_1 waits for nobody/ });
  t.match(await served.ask([...enter, '--address', '10.1']), { code: 1, err: /addresses\/0/ });
  t.match((await served.ask(enter)).err, /--address/);
  t.equal((await served.stop()).code, 0);
});
