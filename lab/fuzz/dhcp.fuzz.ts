import { fuzzTest } from './fuzz-test.ts';

fuzzTest(
  'datagrams to the DHCP server and proxy take no reservation, no order and no memory; a known machine boots on',
  'dhcp',
  ['offers', 'acknowledgements', 'refusals'],
);
