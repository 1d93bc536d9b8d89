import tap from 'tap';

import { showInReport } from '../test/report-file.ts';
import { cases } from './cases.ts';
import { fewOfEach, isPossible, proveCase } from './matrix.ts';
import type { Row } from './matrix.ts';
import { matrixText } from './matrix-text.ts';
import type { Column } from './scenarios.ts';
import { siteTemplate } from './site.ts';

/** A test for each row of the matrix, with these columns of it, which are shown in the report. */
export async function testMatrix(only: (column: Column) => boolean): Promise<void> {
  tap.setTimeout(9.5 * 60_000);
  const template = await siteTemplate(1);
  tap.teardown(() => template.remove());
  const rows: Row[] = [];

  for (const subject of cases) {
    void tap.test(
      `${subject.saga}, ${subject.provider}: whatever goes wrong, it ends, and nothing is left`,
      async (t) => {
        const row = await proveCase(subject, template, { most: fewOfEach, seed: '1', only });
        rows.push(row);
        for (const { scenario, problems } of row.failures) t.fail(scenario, { problems });
        for (const { column, run } of row.cells) {
          if (isPossible(column, subject)) t.ok(run > 0, `${column}: ${String(run)} cases`);
        }
      },
    );
  }

  void tap.test('every row is in the matrix', (t) => {
    t.equal(rows.length, cases.length);
    showInReport(matrixText(rows));
    t.end();
  });
}
