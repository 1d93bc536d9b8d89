import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

import type { Test } from 'tap';

import { scratch } from './qemu-img.fixture.ts';

/** Why there are no certificates here; false where there are. */
export function opensslMissing(): string | false {
  return existsSync('/usr/bin/openssl') ? false : 'openssl is not installed';
}

/** Key and certificate of a host, PEM; the certificate is its own authority, at `file`. */
export function selfSigned(t: Test, name: string): { key: string; certificate: string; file: string } {
  const path = scratch(t);
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30'];
  const subject = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`];
  execFileSync('openssl', ['req', '-x509', ...curve, ...subject, '-keyout', path('key'), '-out', path('cert')], {
    stdio: 'pipe',
  });
  const file = path('cert');
  return { key: readFileSync(path('key'), 'utf8'), certificate: readFileSync(file, 'utf8'), file };
}
