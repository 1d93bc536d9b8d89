import tap from 'tap';

import { showInReport } from '../test/report-file.ts';
import { cases } from './cases.ts';
import { fewOfEach, isPossible, proveCase, siteTemplates } from './matrix.ts';
import type { Row } from './matrix.ts';
import { matrixText } from './matrix-text.ts';
import { columns } from './scenarios.ts';
import type { Column } from './scenarios.ts';

/** A test for each row of the matrix, with these columns of it, which are shown in the report. */
export async function testMatrix(only: (column: Column) => boolean): Promise<void> {
  tap.setTimeout(9.5 * 60_000);
  const templates = await siteTemplates();
  tap.teardown(() => templates.remove());
  const rows: Row[] = [];
  const wanted = cases.filter((subject) => columns.some((column) => only(column) && isPossible(column, subject)));

  for (const subject of wanted) {
    void tap.test(
      `${subject.saga}, ${subject.provider}: whatever goes wrong, it ends, and nothing is left`,
      async (t) => {
        const row = await proveCase(subject, templates.of(subject), { most: fewOfEach, seed: '1', only });
        rows.push(row);
        for (const { scenario, problems } of row.failures) t.fail(scenario, { problems });
        for (const { column, run } of row.cells) {
          if (isPossible(column, subject)) t.ok(run > 0, `${column}: ${String(run)} cases`);
        }
      },
    );
  }

  void tap.test('every row is in the matrix', (t) => {
    t.equal(rows.length, wanted.length);
    showInReport(matrixText(rows));
    t.end();
  });
}
