import { join } from 'node:path';
import { test } from 'tap';

import { place } from './cli.fixture.ts';

test('a quota is looked at, set, asked for and decided at the command line', async (t) => {
  const here = place(t);
  const served = await here.serve();
  const acme = (await served.ask(['tenant', 'add', 'acme'])).out.trim();
  await served.ask(['tenant', 'add', 'rival']);
  const keyFile = join(here.directory, 'acme.key');
  await served.ask(['key', 'issue', 'ci', '--tenant', 'acme', '--output', keyFile]);
  const asks = (...args: string[]) => served.ask(['quota', ...args], keyFile);

  t.match((await asks('list')).out, /WHOSE +SERVERS +CORES[^]*project default +0 of 100 [^]*tenant acme +0 of 100 /);
  t.notMatch((await asks('list')).out, /rival/);
  t.match((await served.ask(['quota', 'list', '--tenant', 'rival'])).out, /tenant rival/);
  t.match(await served.ask(['quota', 'set', 'tenant', 'acme', '--servers', '5', '--reason', 'small']), {
    code: 0,
    out: /tenant acme +0 of 5 +0 of 10000 /,
  });
  t.match((await asks('set', 'tenant', 'acme', '--servers', '9', '--reason', 'ours')).code, 1);
  const id = (await asks('ask', 'tenant', 'acme', '--servers', '50', '--reason', 'the big show')).out.trim();
  t.match(
    (await served.ask(['quota', 'requests', '--state', 'pending'])).out,
    new RegExp(`${id} .*servers 50 .*big show`),
  );
  t.match(await served.ask(['quota', 'approve', id, '--reason', 'enjoy']), { code: 0, out: /approved/ });
  t.match(await served.ask(['quota', 'deny', id, '--reason', 'no']), { code: 1, err: /approved already/ });
  const { out } = await asks('show', 'tenant', acme, '--json');
  t.match(JSON.parse(out), { name: 'acme', limits: { servers: 50, cores: 10_000 }, used: { servers: 0 } });
  t.match(await served.ask(['quota', 'show', 'project', 'default']), { code: 1, err: /Several tenants/ });
  t.match(await served.ask(['quota', 'show', 'user', 'nobody']), { code: 1, err: /There is no user nobody/ });
  t.equal((await served.stop()).code, 0);
});
