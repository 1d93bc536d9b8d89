import { randomBytes } from 'node:crypto';
import { test } from 'tap';

import { ConsoleStream } from './console-stream.ts';

const packet = (number: number, text: string, status = 0) =>
  Buffer.concat([Buffer.from([number, 0, 0, status]), Buffer.from(text)]);

test('each character is taken once, and acknowledged as often as it comes', async (t) => {
  const stream = new ConsoleStream();
  const take = (number: number, text: string) => {
    const output = stream.take(packet(number, text));
    return [output?.characters.toString(), output?.acknowledgement?.toString('hex')];
  };
  t.strictSame(take(1, 'abc'), ['abc', '00010300']);
  t.strictSame(take(1, 'abc'), ['', '00010300'], 'our acknowledgement was lost');
  t.strictSame(take(1, 'abcde'), ['de', '00010500'], 'and it has grown meanwhile');
  t.strictSame(take(2, 'abc'), ['abc', '00020300']);
  t.strictSame(take(15, 'x'), ['x', '000f0100']);
  t.strictSame(take(1, 'y'), ['y', '00010100']);
  t.strictSame(take(0, ''), ['', undefined], 'an acknowledgement is not acknowledged');
  t.strictSame(take(3, 'z'.repeat(300)), ['z'.repeat(255), '0003ff00'], 'no more than the count can say');
});

test('a BMC tells that it has lost characters, and that it has ended', async (t) => {
  t.match(new ConsoleStream().take(packet(1, 'a', 0x08)), { lost: true, ended: false });
  t.match(new ConsoleStream().take(packet(0, '', 0x10)), { lost: false, ended: true, acknowledgement: undefined });
});

test('no bytes whatever make it throw', async (t) => {
  const stream = new ConsoleStream();
  for (let length = 0; length < 600; length++) stream.take(randomBytes(length));
  t.equal(stream.take(Buffer.alloc(3)), undefined);
});
