import { fuzzTest } from './fuzz-test.ts';

fuzzTest(
  'requests to the boot endpoints get no 5xx and change nothing of a machine whose secrets nobody told; it boots on',
  'boot',
  ['200', '204', '400', '403', '404', '409', '413', '415', '416', 'read'],
);
