import { fuzzTest } from './fuzz-test.ts';

const statuses = ['200', '201', '202', '204', '400', '401', '403', '404', '405', '409', '413', '415', '422', '431'];
const everyRoute = /^[A-Z]+ \//;

fuzzTest(
  'requests to the public API are answered as its document says; a wrong field is named; others are left in peace',
  'api',
  [...statuses, 'named', 'taken', everyRoute],
  12_000,
);
