import { appendFileSync } from 'node:fs';

/** Names the file whose content is shown at the end of the report, whether the test file passed or failed. */
export const REPORT_FILE = 'RACKSTART_TEST_REPORT';

/** For what people want to see of a test that passed, too; on standard error where no report is made. */
export function showInReport(text: string): void {
  const file = process.env[REPORT_FILE];
  if (file === undefined) console.error(text);
  else appendFileSync(file, `${text}\n`);
}
