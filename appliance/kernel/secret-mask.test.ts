import { test } from 'tap';

import { createIds } from './ids.ts';
import { ManualClock } from './manual-clock.ts';
import { SecretMask, maskSecrets } from './secret-mask.ts';

const token = 'q7Jx0_Zt-4kLw8sVb2NfYcR9mHdGpTuE1oXiQa6K5eA';
const stars = '*'.repeat(token.length);

test('what stands behind the name of a secret is overwritten, and nothing else', async (t) => {
  for (const [said, kept] of [
    [
      `rackstart.token=${token} rackstart.mac=52-54-00-77-00-01`,
      `rackstart.token=${stars} rackstart.mac=52-54-00-77-00-01`,
    ],
    [`GET /boot/52-54-00?token=${token}\r\nHost: a`, `GET /boot/52-54-00?token=${stars}\r\nHost: a`],
    [`Authorization: Bearer ${token}\nnext`, `Authorization: ****** ${stars}\nnext`],
    [`"password": "hunter2", "a": 1`, `"password": "*******", "a": 1`],
    ['key rackstart_00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff ok', `key rackstart_${'*'.repeat(40)} ok`],
    ['the token of a boot is secret, its password too', 'the token of a boot is secret, its password too'],
  ] as const) {
    t.equal(maskSecrets(said), kept);
  }
});

test('a credential is known by the id that it begins with', async (t) => {
  const id = createIds(new ManualClock()).next('att');
  t.equal(maskSecrets(`header ${id}.${token} end`), `header ${id}.${stars} end`);
});

test('it makes no difference where the text is cut', async (t) => {
  const said = `a rackstart.token=${token} b Bearer ${token} c`;
  const whole = maskSecrets(said);
  t.notMatch(whole, token);
  for (let cut = 0; cut <= said.length; cut++) {
    const mask = new SecretMask();
    t.equal(mask.mask(said.slice(0, cut)) + mask.mask(said.slice(cut)), whole);
  }
  const mask = new SecretMask();
  t.equal(Array.from(said, (character) => mask.mask(character)).join(''), whole);
});

test('a console that wraps a secret, or moves the cursor within it, shows no part of it', async (t) => {
  const said = `token=${token} b`;
  for (const wrap of ['\r\n', '\n', '\x1b[24;01H', '\x1b[0m\r\n\x1b(B']) {
    for (let at = 0; at <= said.length; at++) {
      const wrapped = said.slice(0, at) + wrap + said.slice(at);
      t.equal(maskSecrets(wrapped).replace(wrap, ''), `token=${stars} b`, `${JSON.stringify(wrap)} at ${at}`);
    }
  }
});

test('text that begins in the middle may begin in the middle of a secret', async (t) => {
  t.equal(new SecretMask({ midway: true }).mask(`${token.slice(20)} rest`), `${'*'.repeat(23)} rest`);
  t.equal(new SecretMask({ midway: true }).mask('[    0.000000] Linux'), '[    0.000000] Linux');
  const mask = new SecretMask();
  mask.mask('token=abc then ');
  mask.gap();
  t.equal(mask.mask('defghi rest'), '****** rest');
});

test('a private key is overwritten up to its end', async (t) => {
  const body = 'b3BlbnNzaC1rZXktdjEAAAAABG5vbmU=';
  const pem = (inside: string) =>
    `-----BEGIN OPENSSH PRIVATE KEY-----\n${inside}\n${inside}\n-----END OPENSSH PRIVATE KEY-----\nafter`;
  t.equal(maskSecrets(pem(body)), pem('*'.repeat(body.length)));
});
