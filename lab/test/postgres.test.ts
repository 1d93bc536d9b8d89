import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { test } from 'tap';

import { run } from '../process/run.ts';
import { startProcess } from '../process/start.ts';
import { postgresMissing, startPostgres } from './postgres.ts';

const skip = postgresMissing() ?? false;

test('a PostgreSQL of its own answers at its URL, and stop leaves neither server nor data', { skip }, async (t) => {
  const postgres = await startPostgres();
  t.teardown(() => postgres.stop());
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  const { rows } = await client.query<{ fsync: string; directory: string }>(
    `select current_setting('fsync') fsync, current_setting('data_directory') directory`,
  );
  await client.end();
  t.equal(rows[0]!.fsync, 'off');
  t.ok(existsSync(rows[0]!.directory));
  t.match(await run(['psql', postgres.url, '-Atc', 'select 1 + 1']), '2\n');

  await postgres.stop();
  await postgres.stop();
  t.notOk(existsSync(rows[0]!.directory));
  await t.rejects(run(['psql', postgres.url, '-Atc', 'select 1']));
});

test('two servers run side by side, and each ends with its process', { skip }, async (t) => {
  const postgres = await startPostgres();
  t.teardown(() => postgres.stop());
  const program = `
    import { startPostgres } from ${JSON.stringify(new URL('postgres.ts', import.meta.url).pathname)};
    console.log('url', (await startPostgres()).url);
    setTimeout(() => {}, 60_000);`;
  const argv = [process.execPath, '--input-type=module', '--eval', program];
  const folder = mkdtempSync(join(tmpdir(), 'rs-postgres-test-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const other = await startProcess({ argv, logFile: join(folder, 'log') });
  const url = new URL((await other.line(/^url (.+)$/m, 30_000))[1]!);
  t.not(url.href, postgres.url);
  const directory = url.searchParams.get('host')!;
  t.ok(existsSync(directory));
  await other.stop();
  t.notOk(existsSync(directory));
});
