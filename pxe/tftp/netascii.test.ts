import { test } from 'tap';

import { toNetascii } from './netascii.ts';

test('line ends are those of a terminal, and a carriage return is told from them', (t) => {
  const text = (from: string) => toNetascii(Buffer.from(from, 'latin1')).toString('latin1');
  t.equal(text(''), '');
  t.equal(text('a\nb\n'), 'a\r\nb\r\n');
  t.equal(text('a\rb\r'), 'a\r\0b\r\0');
  t.equal(text('\r\n\0\xff'), '\r\0\r\n\0\xff');
  t.end();
});
