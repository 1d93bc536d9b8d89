import { test } from 'tap';

import { place } from './cli.fixture.ts';

test('an operator has the servers of a model started by a reset, and sees who said so', async (t) => {
  const here = place(t);
  const served = await here.serve();
  t.match(await served.ask(['handoffs', 'list']), { code: 0, out: /^MODEL +FIRMWARE +STARTED BY .*\n$/ });
  const set = ['handoffs', 'set', 'PowerEdge R650'];
  t.match(await served.ask([...set, 'reset', '--firmware', 'uefi']), {
    code: 0,
    out: /\nPowerEdge R650 +uefi +reset +0 +0 +\S+ +key_\S+\n$/,
  });
  t.match(await served.ask([...set, 'reset']), { code: 1, err: /--firmware/ });
  t.match(await served.ask([...set, 'jump', '--firmware', 'uefi']), { code: 1, err: /kexec, reset/ });
  t.match(JSON.parse((await served.ask(['handoffs', 'list', '--json'])).out), {
    handoffs: [{ model: 'PowerEdge R650', firmware: 'uefi', handoff: 'reset' }],
  });
  t.equal((await served.stop()).code, 0);
});
