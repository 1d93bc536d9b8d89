import { test } from 'tap';

import { makeHostKey } from './installed-system.ts';

test('every host key is a whole one', async (t) => {
  const keys = Array.from({ length: 1_500 }, () => makeHostKey().public);
  const bytes = new Set(keys.map((key) => Buffer.from(key.split(' ')[1]!, 'base64').length));
  t.strictSame([...bytes], [51], 'RFC 8709 §4: two lengths, eleven letters, 32 bytes');
});
