import { join } from 'node:path';
import { test } from 'tap';

import { run } from '../process/run.ts';

const main = join(import.meta.dirname, 'main.ts');

test('without a name the benches are listed', async (t) => {
  t.match(await run([process.execPath, main]), /^bmc {2,}\S/m);
});

test('an unknown bench is refused by naming those there are', async (t) => {
  const refused = { message: /exit 2[\s\S]*There is no bench "nothing": .*bmc/ };
  await t.rejects(run([process.execPath, main, 'nothing']), refused);
});
