import { X509Certificate } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Test } from 'tap';
import { test } from 'tap';

import { createIds } from '../../appliance/kernel/ids.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { openBootCertificate } from './certificate.ts';

const ids = createIds(new ManualClock());
const addresses = ['10.77.0.1', 'fd77::1'];

test('the server certificate is of the CA, for the provisioning addresses, and valid whatever the clock says', async (t) => {
  const made = await openBootCertificate({ directory: stateDirectory(t), addresses, ids });
  const ca = new X509Certificate(made.ca);
  const server = new X509Certificate(made.certificate);
  t.ok(ca.ca);
  t.ok(ca.verify(ca.publicKey));
  t.notOk(server.ca);
  t.ok(server.checkIssued(ca));
  t.ok(server.verify(ca.publicKey));
  t.equal(server.checkIP('10.77.0.1'), '10.77.0.1');
  t.equal(server.checkIP('fd77::1'), 'fd77::1');
  t.equal(server.checkIP('10.77.0.2'), undefined);
  t.same(server.keyUsage, ['1.3.6.1.5.5.7.3.1'], 'serverAuth alone');
  for (const certificate of [ca, server]) {
    t.equal(certificate.validFromDate.getUTCFullYear(), 2000);
    t.equal(certificate.validToDate.getUTCFullYear(), 2100);
    t.equal(certificate.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1');
  }
  t.match(made.key.reveal(), /^-----BEGIN PRIVATE KEY-----\n/);
});

test('the CA is made once and kept, its key for the owner alone; the server certificate is new at each start', async (t) => {
  const directory = stateDirectory(t);
  const first = await openBootCertificate({ directory, addresses, ids });
  t.strictSame(readdirSync(directory).sort(), ['boot-ca.key', 'boot-ca.pem']);
  t.equal(statSync(join(directory, 'boot-ca.key')).mode & 0o777, 0o600);
  const second = await openBootCertificate({ directory, addresses: ['10.78.0.1'], ids });
  t.equal(second.ca, first.ca);
  t.not(second.certificate, first.certificate);
  t.ok(new X509Certificate(second.certificate).verify(new X509Certificate(first.ca).publicKey));
});

test('an appliance without a provisioning network has a CA all the same', async (t) => {
  const made = await openBootCertificate({ directory: stateDirectory(t), addresses: [], ids });
  t.equal(new X509Certificate(made.certificate).subjectAltName, undefined);
  t.ok(new X509Certificate(made.ca).ca);
});

test('a first start that was cut short between key and certificate is finished with the same key', async (t) => {
  const directory = stateDirectory(t);
  const first = await openBootCertificate({ directory, addresses, ids });
  rmSync(join(directory, 'boot-ca.pem'));
  writeFileSync(join(directory, 'boot-ca.pem.new'), 'half of');
  const second = await openBootCertificate({ directory, addresses, ids });
  t.same(
    new X509Certificate(second.ca).publicKey.export({ type: 'spki', format: 'der' }),
    new X509Certificate(first.ca).publicKey.export({ type: 'spki', format: 'der' }),
  );
});

test('a broken or foreign CA is named and left alone, never replaced', async (t) => {
  const directory = stateDirectory(t);
  await openBootCertificate({ directory, addresses, ids });
  const foreign = await openBootCertificate({ directory: stateDirectory(t), addresses, ids });
  for (const [name, text] of [
    ['boot-ca.pem', foreign.ca],
    ['boot-ca.pem', 'garbage'],
    ['boot-ca.key', 'garbage'],
    ['boot-ca.key', ''],
  ] as const) {
    chmodSync(join(directory, name), 0o600);
    writeFileSync(join(directory, name), text);
    await t.rejects(openBootCertificate({ directory, addresses, ids }), { code: 'config.invalid', message: name });
    t.equal(readFileSync(join(directory, name), 'utf8'), text);
  }
});

function stateDirectory(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'rs-ca-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return directory;
}
