import { fuzzTest } from './fuzz-test.ts';

fuzzTest(
  'requests to the boot endpoints get no 5xx and change nothing of a machine whose secrets nobody told; it boots on, and what is given of a frozen image is exact',
  'boot',
  [
    ...['200', '204', '400', '403', '404', '409', '413', '415', '416', 'read'],
    ...[
      'map 200',
      'map 206',
      'whole 200',
      'whole 206',
      'chunk 200',
      'chunk 206',
      'chunk 304',
      'chunk 416',
      'elsewhere 404',
    ],
  ],
);
