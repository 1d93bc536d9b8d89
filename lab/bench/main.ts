/**
 * `node lab/bench/main.ts [NAME] [--report FILE]`: runs one benchmark, prints its table and writes the report; without
 * a name, lists them. A missed aim is told, not an error: a busy machine misses many.
 */
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { report, table } from './report.ts';
import type { Bench } from './report.ts';

process.exitCode = await main(process.argv.slice(2));

async function main(argv: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: { report: { type: 'string' } },
  });
  const benches = await findBenches();
  const [name] = positionals;
  if (name === undefined) {
    console.log(benches.map((bench) => `${bench.name.padEnd(12)} ${bench.about}`).join('\n'));
    return 0;
  }
  const bench = benches.find((candidate) => candidate.name === name);
  if (bench === undefined || positionals.length > 1) {
    console.error(`There is no bench "${positionals.join(' ')}": ${benches.map((known) => known.name).join(', ')}`);
    return 2;
  }
  const result = await report(bench, await bench.run((line) => console.error(line)));
  if (values.report !== undefined) await writeFile(values.report, JSON.stringify(result, null, 2) + '\n');
  console.log(table(result));
  return 0;
}

/** Every file of this folder that exports a `bench`. */
async function findBenches(): Promise<Bench[]> {
  const others = ['main.ts', 'report.ts'];
  const files = (await readdir(import.meta.dirname)).filter((file) => /^[a-z0-9-]+\.ts$/.test(file)).sort();
  const modules = files
    .filter((file) => !others.includes(file))
    .map(async (file) => (await import(join(import.meta.dirname, file))) as { bench?: Bench });
  return (await Promise.all(modules)).flatMap(({ bench }) => (bench === undefined ? [] : [bench]));
}
