// @peculiar/x509 resolves its parts with tsyringe, which refuses to load before this.
import 'reflect-metadata';

import { createPrivateKey, createPublicKey, webcrypto } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import * as x509 from '@peculiar/x509';

import { writeOnce } from '../../appliance/kernel/durable-file.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { Ids } from '../../appliance/kernel/ids.ts';
import { Secret } from '../../appliance/kernel/secret.ts';

/** What the appliance shows a machine, and what the machine pins. All PEM. */
export interface BootCertificate {
  readonly ca: string;
  readonly certificate: string;
  readonly key: Secret;
}

export interface BootCertificateOptions {
  /** Where the CA lives: `boot-ca.key` (0600) and `boot-ca.pem`; made once and then kept. */
  readonly directory: string;
  /** The appliance's addresses on provisioning networks, which machines connect to. */
  readonly addresses: readonly string[];
  readonly ids: Ids;
}

/**
 * The appliance's own CA, out of `directory` or new, and a server certificate of it made for this start. Installed
 * servers pin the CA for as long as they live.
 *
 * Error: `config.invalid` when what is in `directory` is not a CA and its key; it is never replaced silently, since
 * every agent would then refuse the appliance.
 */
export async function openBootCertificate(options: BootCertificateOptions): Promise<BootCertificate> {
  const { directory, addresses, ids } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const keyPair = await caKey(join(directory, 'boot-ca.key'));
  const ca = await caCertificate(join(directory, 'boot-ca.pem'), keyPair, ids);
  const serverKeys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.create({
    ...VALIDITY,
    serialNumber: serialNumber(ids),
    subject: 'CN=Rackstart appliance',
    issuer: ca.subject,
    publicKey: serverKeys.publicKey,
    signingKey: keyPair.privateKey,
    signingAlgorithm: SIGNATURE,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      ...alternativeNames(addresses),
      await x509.AuthorityKeyIdentifierExtension.create(keyPair.publicKey),
    ],
  });
  return { ca: pem(ca), certificate: pem(certificate), key: new Secret(await exportKey(serverKeys.privateKey)) };
}

// RFC 5280 §4.2.1.6: the extension holds at least one name.
function alternativeNames(addresses: readonly string[]): x509.Extension[] {
  if (addresses.length === 0) return [];
  return [new x509.SubjectAlternativeNameExtension(addresses.map((value) => ({ type: 'ip', value })))];
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' };
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' };

// A machine that lost its clock battery boots in the year its firmware was built: a narrow validity would turn a dead
// battery into a failed install. What ends trust here is the bearer, not the date.
const VALIDITY = { notBefore: new Date('2000-01-01T00:00:00Z'), notAfter: new Date('2100-01-01T00:00:00Z') };

async function caKey(path: string): Promise<webcrypto.CryptoKeyPair> {
  const stored = await readIfThere(path);
  if (stored === undefined) {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
    await writeOnce(path, await exportKey(keys.privateKey), 0o600);
    return keys;
  }
  try {
    const key = createPrivateKey(stored);
    const pkcs8 = key.export({ type: 'pkcs8', format: 'der' });
    const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
    return {
      privateKey: await webcrypto.subtle.importKey('pkcs8', pkcs8, ALGORITHM, false, ['sign']),
      publicKey: await webcrypto.subtle.importKey('spki', spki, ALGORITHM, true, ['verify']),
    };
  } catch (cause) {
    throw new RackstartError('config.invalid', `${path} is not an ECDSA P-256 key.`, { cause });
  }
}

/** A key without its certificate is a first start that was cut short: the certificate is made then. */
async function caCertificate(path: string, keys: webcrypto.CryptoKeyPair, ids: Ids): Promise<x509.X509Certificate> {
  const stored = await readIfThere(path);
  if (stored === undefined) {
    const made = await selfSigned(keys, ids);
    await writeOnce(path, pem(made), 0o644);
    return made;
  }
  try {
    const certificate = new x509.X509Certificate(stored);
    if (await certificate.verify({ publicKey: keys.publicKey, signatureOnly: true })) return certificate;
  } catch (cause) {
    throw new RackstartError('config.invalid', `${path} is not a certificate.`, { cause });
  }
  throw new RackstartError('config.invalid', `${path} is not the certificate of the key beside it.`);
}

async function selfSigned(keys: webcrypto.CryptoKeyPair, ids: Ids): Promise<x509.X509Certificate> {
  return x509.X509CertificateGenerator.createSelfSigned({
    ...VALIDITY,
    serialNumber: serialNumber(ids),
    name: 'CN=Rackstart boot CA',
    keys,
    signingAlgorithm: SIGNATURE,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
}

// RFC 5280 §4.1.2.2: positive, at most 20 bytes.
function serialNumber(ids: Ids): string {
  const bytes = ids.random(16);
  bytes.writeUInt8((bytes.readUInt8(0) & 0x7f) | 0x40, 0);
  return bytes.toString('hex');
}

const pem = (certificate: x509.X509Certificate) => `${certificate.toString('pem').trim()}\n`;

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key));
  return createPrivateKey({ key: der, type: 'pkcs8', format: 'der' })
    .export({ type: 'pkcs8', format: 'pem' })
    .toString();
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new RackstartError('config.invalid', `${path} cannot be read.`, { cause: error });
  }
}
