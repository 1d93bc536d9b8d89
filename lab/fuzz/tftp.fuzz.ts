import { fuzzTest } from './fuzz-test.ts';

fuzzTest(
  'packets to the TFTP server and its transfers leave no transfer, socket or memory behind; files come whole',
  'tftp',
  ['data', 'errors', 'options', 'started', 'done', 'stopped', 'lost', 'refused'],
);
