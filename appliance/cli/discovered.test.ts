import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';

import { place } from './cli.fixture.ts';

test('rules are added, listed and removed; an unknown machine that is none is said so', async (t) => {
  const here = place(t);
  const served = await here.serve();
  await served.ask(['region', 'add', 'west']);
  await served.ask(['rack', 'add', 'r1', '--region', 'west']);
  const file = join(here.directory, 'password');
  writeFileSync(file, 'hunter2\n');
  const bmc = ['--rack', 'r1', '--bmc-user', 'admin', '--bmc-password-file', file];
  const add = (...more: string[]) => served.ask(['accept-rule', 'add', 'lab', ...bmc, ...more]);
  t.match(await add('--bmc-network', '10.9.0.0/24'), { code: 1, err: /\/match/ });
  t.match(await add('--mac-prefix', '52:54:00', '--bmc-network', '10.9.0.0'), { code: 1, err: /\/bmc\/network/ });
  const firmware = ['--firmware-vendor', 'Dell*', '--firmware-version', '2.*'];
  const criteria = ['--mac-prefix', '52:54:00', '--model', 'R6*', ...firmware, '--switch-port', 'leaf-3/*'];
  t.match(await add(...criteria, '--bmc-network', '10.9.0.7/24'), { code: 0 });
  const listed = await served.ask(['accept-rule', 'list']);
  t.match(listed.out, /lab +rck_\S+ +52:54:00 +- +R6\* +Dell\* +2\.\* +- +leaf-3\/\* +lab- +10\.9\.0\.0\/24/);
  t.notMatch(listed.out, 'hunter2');
  t.match(await served.ask(['accept-rule', 'remove', 'lab']), { code: 0, out: /lab/ });
  t.match(await served.ask(['accept-rule', 'remove', 'lab']), { code: 1, err: /accept-rule list/ });

  t.match(await served.ask(['discovered', 'list']), { code: 0, out: /^ID +MAC +STATE/ });
  t.match(await served.ask(['discovered', 'accept', 'S1', '--name', 'm1', ...bmc]), {
    code: 1,
    err: /no unknown machine S1/,
  });
  for (const verb of ['show', 'reject', 'forget'])
    t.match(await served.ask(['discovered', verb, 'S1']), { code: 1, err: /S1/ });
  t.equal((await served.stop()).code, 0);
});
