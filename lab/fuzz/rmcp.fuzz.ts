import { fuzzTest } from './fuzz-test.ts';

fuzzTest(
  'packets of hostile BMCs make our IPMI client believe nothing wrong, wait for ever or leave anything open',
  'rmcp',
  ['opened', 'decoded', 'refused', 'done', 'heard', 'bmc.unreachable', 'bmc.auth'],
);
