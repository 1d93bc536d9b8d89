import { createSecretKey } from 'node:crypto';

import { test } from 'tap';

import { Secret } from '../../appliance/kernel/secret.ts';
import type { Hop } from './token.ts';
import { deriveToken, isToken, tokenId } from './token.ts';

const key = createSecretKey(Buffer.alloc(32, 7));
const subject = { id: 'boot_01h', generation: 3, nonce: 'ab'.repeat(16) };
const hops: Hop[] = ['script', 'claim', 'bearer', 'agent'];

test('a token is the same each time it is derived, and 256 bits long', (t) => {
  for (const hop of hops) {
    const token = deriveToken(key, hop, subject);
    t.equal(token.reveal(), deriveToken(key, hop, { ...subject }).reveal());
    t.match(token.reveal(), /(?:^|\.)[A-Za-z0-9_-]{43}$/);
    t.ok(isToken(token, key, hop, subject));
  }
  t.end();
});

test('a token buys nothing at another hop, for another boot, generation or nonce, or under another key', (t) => {
  for (const hop of hops) {
    const token = deriveToken(key, hop, subject);
    for (const other of hops.filter((name) => name !== hop)) t.notOk(isToken(token, key, other, subject), other);
    t.notOk(isToken(token, key, hop, { ...subject, id: 'boot_02h' }));
    t.notOk(isToken(token, key, hop, { ...subject, generation: 4 }));
    t.notOk(isToken(token, key, hop, { ...subject, nonce: 'cd'.repeat(16) }));
    t.notOk(isToken(token, createSecretKey(Buffer.alloc(32, 8)), hop, subject));
  }
  t.end();
});

test('garbage of any length is refused, not thrown at', (t) => {
  const good = deriveToken(key, 'bearer', subject).reveal();
  for (const text of ['', 'x', good.slice(0, -1), `${good}A`, `${good}=`, 'ü'.repeat(5000), '\0']) {
    t.notOk(isToken(new Secret(text), key, 'bearer', subject));
  }
  t.end();
});

test('a bearer and a credential name whom they are for, and nothing else does', (t) => {
  t.equal(tokenId(deriveToken(key, 'bearer', subject)), 'boot_01h');
  t.equal(tokenId(deriveToken(key, 'agent', subject)), 'boot_01h');
  t.equal(tokenId(deriveToken(key, 'claim', subject)), undefined);
  for (const text of ['', '.', 'a.b', `a/b.${'x'.repeat(43)}`, `${'a'.repeat(65)}.${'x'.repeat(43)}`]) {
    t.equal(tokenId(new Secret(text)), undefined, text);
  }
  t.end();
});

test('what two subjects could share is refused when a token is made', (t) => {
  const refused = { code: 'config.invalid' };
  t.throws(() => deriveToken(createSecretKey(Buffer.alloc(31)), 'script', subject), refused, 'a short key');
  t.throws(() => deriveToken(key, 'script', { ...subject, id: 'a\0b' }), refused);
  t.throws(() => deriveToken(key, 'script', { ...subject, nonce: 'a\0b' }), refused);
  t.throws(() => deriveToken(key, 'script', { ...subject, generation: NaN }), refused);
  t.end();
});
