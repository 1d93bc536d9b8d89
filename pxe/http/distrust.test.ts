import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { test } from 'tap';

import { curl } from './ask.fixture.ts';
import { startRig } from './server.fixture.ts';

const OTHER_CAS = '/etc/ssl/certs/ca-certificates.crt';
const run = promisify(execFile);

const skip = !existsSync(OTHER_CAS) && 'Debian package ca-certificates is missing';

test('a machine that trusts another CA is told of, by the address it came from', { skip }, async (t) => {
  const { https, seen, names } = await startRig(t);
  await t.rejects(curl('--cacert', OTHER_CAS, `${https}/boot/v1/next?generation=1`));
  t.match(await seen('tls-refused'), {
    owner: { address: '127.0.0.1' },
    entry: { source: 'http', detail: { from: '127.0.0.1', alert: 'unknown ca' } },
  });
  t.strictSame(names(), ['tls-refused']);
});

test('one whose clock says that our certificate is not valid yet, or not any more, tells so by its alert', async (t) => {
  const { ports, caFile, seen } = await startRig(t);
  for (const [seconds, alert] of [
    ['0', 'bad certificate'],
    ['4133980800', 'certificate expired'], // 2101
  ] as const) {
    const client = ['-connect', `127.0.0.1:${ports.https}`, '-CAfile', caFile, '-verify_return_error', '-attime'];
    await t.rejects(run('openssl', ['s_client', ...client, seconds]));
    t.match(await seen('tls-refused', (detail) => detail['alert'] === alert), { entry: { source: 'http' } });
  }
});

test('a handshake that ends without an alert is nothing to tell of, nor is one that succeeds', async (t) => {
  const { http, https, caFile, seen, names } = await startRig(t);
  await t.rejects(curl('--max-time', '5', https.replace('https', 'http')));
  await curl('--cacert', caFile, `${https}/nothing-here`);
  await curl(`${http}/boot/52-54-00-77-00-01`);
  await seen('local-disk');
  t.strictSame(names(), ['local-disk']);
});
