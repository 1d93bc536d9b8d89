import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';

import { place } from './cli.fixture.ts';

test('a manifest is loaded from a file, listed and cut short', async (t) => {
  const here = place(t);
  const served = await here.serve();
  await served.ask(['region', 'add', 'west']);
  await served.ask(['rack', 'add', 'r1', '--region', 'west']);
  const file = join(here.directory, 'manifest.yaml');
  const row = 'region: west, rack: r1, unit: 12, bmc_address: 10.9.0.1, bmc_user: admin, bmc_password: hunter2';
  writeFileSync(file, `- { serial: S1, ${row} }\n`);
  t.match(await served.ask(['manifest', 'load', file]), { code: 0, out: '1 added, 0 changed, 0 unchanged\n' });
  t.match(await served.ask(['manifest', 'load', file]), { code: 0, out: '0 added, 0 changed, 1 unchanged\n' });
  const listed = await served.ask(['manifest', 'list']);
  t.match(listed.out, /S1 +r1-u12 +west +r1 +12 +10\.9\.0\.1:623 +-/);
  t.notMatch(listed.out, 'hunter2');
  t.match((await served.ask(['manifest', 'check'])).out, /missing +S1 +r1-u12 +r1, unit 12 +It has not been seen/);
  writeFileSync(file, `- { serial: S2, ${row} }\n- { serial: S3, unit: x }\n`);
  t.match(await served.ask(['manifest', 'load', file]), { code: 1, err: /\/rows\/1\/unit.*\n/ });
  t.match(await served.ask(['manifest', 'load', join(here.directory, 'manifest')]), { err: /--format/ });
  t.match(await served.ask(['manifest', 'remove', 'S1']), { code: 0, out: /S1/ });
  t.match(await served.ask(['manifest', 'remove', 'S1']), { code: 1, err: /manifest list/ });
  t.equal((await served.ask(['manifest', 'check'])).out, 'all is as expected\n');
  t.equal((await served.stop()).code, 0);
});
