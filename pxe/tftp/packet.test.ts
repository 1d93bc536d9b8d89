import { test } from 'tap';

import { encodeData, encodeError, encodeOptions, parsePacket, TFTP_ERROR } from './packet.ts';

const bytes = (text: string) => Buffer.from(text, 'latin1');

test('a read request gives its file, mode and options', (t) => {
  const packet = parsePacket(bytes('\0\x01snponly.efi\0OcTeT\0BLKSIZE\x001468\0tsize\x000\0'));
  t.match(packet, { kind: 'read', file: 'snponly.efi', mode: 'octet' });
  t.same(packet?.kind === 'read' && [...packet.options], [
    ['blksize', '1468'],
    ['tsize', '0'],
  ]);
  t.match(parsePacket(bytes('\0\x02f\0octet\0')), { kind: 'write', file: 'f', options: new Map() });
  t.end();
});

test('of a repeated option the first counts, and padding and half an option count for nothing', (t) => {
  const optionsOf = (rest: string) => {
    const packet = parsePacket(bytes(`\0\x01f\0octet\0${rest}`));
    return packet?.kind === 'read' && [...packet.options];
  };
  t.same(optionsOf('tsize\x000\0TSIZE\x009\0'), [['tsize', '0']]);
  t.same(optionsOf('tsize\x000\0\0\0\0\0\0\0'), [['tsize', '0']]);
  t.same(optionsOf('tsize\x000\0blksize\0'), [['tsize', '0']]);
  t.same(optionsOf('tsize\x000\0blksize\x00512'), [['tsize', '0']], 'a value without its zero');
  t.end();
});

test('what is not a whole packet is none', (t) => {
  const wrong = ['', '\0', '\0\x01', '\0\x01a', '\0\x01\0octet\0', '\0\x01file\0octet', '\0\x04\0', '\0\x04\0\x01\0'];
  wrong.push('\0\x06blksize\x00512\0', '\0\x07\0\0', '\x01\0f\0octet\0', `\0\x01${'f'.repeat(505)}\0octet\0`);
  for (const text of wrong) t.equal(parsePacket(bytes(text)), undefined, JSON.stringify(text.slice(0, 20)));
  t.end();
});

test('acknowledgements and errors are read, an error even without its last zero', (t) => {
  t.same(parsePacket(bytes('\0\x04\xff\xfe')), { kind: 'ack', block: 0xfffe });
  t.same(parsePacket(bytes('\0\x05\0\x08no\0 rest')), { kind: 'error', code: 8, message: 'no' });
  t.same(parsePacket(bytes('\0\x05\0\x00stop')), { kind: 'error', code: 0, message: 'stop' });
  const endless = parsePacket(bytes(`\0\x05\0\0${'x'.repeat(1000)}`));
  t.equal(endless?.kind === 'error' && endless.message.length, 128);
  t.end();
});

test('packets are written as the RFCs draw them', (t) => {
  t.equal(encodeData(65_537, bytes('ab')).toString('latin1'), '\0\x03\0\x01ab', 'block numbers roll over to 0');
  const options = new Map([
    ['blksize', 1468],
    ['tsize', 7],
  ]);
  t.equal(encodeOptions(options).toString('latin1'), '\0\x06blksize\x001468\0tsize\x007\0');
  t.equal(encodeError(TFTP_ERROR.fileNotFound, 'no').toString('latin1'), '\0\x05\0\x01no\0');
  t.end();
});
