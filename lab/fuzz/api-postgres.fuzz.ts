import { fuzzTest } from './fuzz-test.ts';

fuzzTest(
  'requests to the public API on PostgreSQL are answered as its document says',
  'api-postgres',
  ['200', '201', '202', '400', '403', '404', 'named', 'taken'],
  3_000,
);
