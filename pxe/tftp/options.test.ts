import { test } from 'tap';

import { negotiate } from './options.ts';

const LIMITS = { blockSize: 1468, windowSize: 16 };
const ask = (options: Record<string, string>) => negotiate(new Map(Object.entries(options)), 1000, LIMITS);

test('without options a transfer is that of RFC 1350', (t) => {
  t.match(ask({}), { blockSize: 512, windowSize: 1, timeout: undefined, granted: new Map() });
  t.match(ask({ multicast: '', rollover: '0' }), { granted: new Map() }, 'unknown options are left out');
  t.end();
});

test('sizes are granted up to the limit, the timeout and file size as they are', (t) => {
  t.match(ask({ blksize: '65464', windowsize: '64', timeout: '6', tsize: '0' }), {
    blockSize: 1468,
    windowSize: 16,
    timeout: 6,
  });
  t.same(
    [...ask({ blksize: '65464', windowsize: '64', timeout: '6', tsize: '0' }).granted.entries()],
    [
      ['blksize', 1468],
      ['timeout', 6],
      ['windowsize', 16],
      ['tsize', 1000],
    ],
  );
  t.match(ask({ blksize: '8', windowsize: '1' }), { blockSize: 8, windowSize: 1 });
  t.end();
});

test('a value outside its range is as if it had not been asked for', (t) => {
  const values = ['', '0', '-1', '7', '65465', '1e3', '0x200', ' 512', '512 ', '99999999999999999999', 'NaN'];
  for (const value of values) {
    t.match(ask({ blksize: value }), { blockSize: 512, granted: new Map() }, `blksize "${value}"`);
  }
  for (const value of ['0', '21', '255', 'x'])
    t.match(ask({ timeout: value }), { timeout: undefined, granted: new Map() });
  for (const value of ['0', '65536', 'x']) t.match(ask({ windowsize: value }), { windowSize: 1, granted: new Map() });
  t.match(ask({ tsize: 'x' }), { granted: new Map() });
  t.end();
});
