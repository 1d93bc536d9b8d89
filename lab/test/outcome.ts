/** What one part of a test run came to: a check, a test file or a machine flow. */
export interface Outcome {
  passed: number;
  failures: readonly Failure[];
  skipped: readonly Skip[];
  /** What else it wrote, to be shown when something failed. */
  output?: string;
  /** What it has to show in any case, for the end of the report. */
  report?: string;
}

export interface Failure {
  /** The test's title, with those of the tests around it. */
  title: string;
  /** Everything known about why, as lines to print. */
  diagnostics: string;
}

export interface Skip {
  title: string;
  reason: string;
}

/** One part of a test run, named as the report shows it. */
export interface Job {
  title: string;
  run(): Promise<Outcome>;
}
