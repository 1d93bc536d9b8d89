import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';

import { writeOnce } from '../../kernel/durable-file.ts';
import { RackstartError } from '../../kernel/errors.ts';
import type { Ids } from '../../kernel/ids.ts';
import { Secret } from '../../kernel/secret.ts';

/**
 * The keys BMC credentials are encrypted with at rest: AES-256-GCM (NIST SP 800-38D), under the current key; what older
 * keys sealed can still be opened. A sealed credential is `v1.KEY ID.NONCE.CIPHERTEXT.TAG`, base64url, bound to the
 * machine it belongs to: copied to another machine's row it does not open.
 */
export class MasterKeys {
  readonly #current: MasterKey;
  readonly #byId: ReadonlyMap<string, MasterKey>;

  constructor(current: MasterKey, previous: readonly MasterKey[] = []) {
    this.#current = current;
    this.#byId = new Map([...previous, current].map((key) => [key.id, key]));
  }

  seal(credential: Secret, machineId: string, ids: Ids): string {
    const nonce = ids.random(NONCE_BYTES);
    const { id, bytes } = this.#current;
    const cipher = createCipheriv(ALGORITHM, bytes, nonce).setAAD(context(id, machineId));
    const ciphertext = Buffer.concat([cipher.update(credential.reveal(), 'utf8'), cipher.final()]);
    return [VERSION, id, ...[nonce, ciphertext, cipher.getAuthTag()].map((part) => part.toString('base64url'))].join(
      '.',
    );
  }

  /** Rejects with `key.mismatch` when no key of ours sealed it, or not for this machine, or it was altered. */
  open(sealed: string, machineId: string): Secret {
    const { keyId, nonce, ciphertext, tag } = parse(sealed, machineId);
    const key = this.#byId.get(keyId);
    if (key === undefined) throw mismatch(machineId, `was sealed with the master key ${keyId}, which is not here`);
    const options = { authTagLength: TAG_BYTES };
    const decipher = createDecipheriv(ALGORITHM, key.bytes, nonce, options).setAAD(context(keyId, machineId));
    try {
      decipher.setAuthTag(tag);
      return new Secret(Buffer.concat([decipher.update(ciphertext), decipher.final()]).toString('utf8'));
    } catch (cause) {
      throw mismatch(machineId, 'was altered, or belongs to another machine', cause);
    }
  }

  /** The same credential under the current key; undefined when it is so already. For rotation, row by row. */
  reseal(sealed: string, machineId: string, ids: Ids): string | undefined {
    if (parse(sealed, machineId).keyId === this.#current.id) return undefined;
    return this.seal(this.open(sealed, machineId), machineId, ids);
  }
}

export interface MasterKey {
  /** Says which key it is and nothing about the key. */
  id: string;
  bytes: Buffer;
}

/** `bytes` are 32. */
export function masterKey(bytes: Buffer): MasterKey {
  if (bytes.length !== KEY_BYTES) throw invalid(`a master key has ${KEY_BYTES} bytes, this one has ${bytes.length}`);
  const id = createHash('sha256').update('rackstart master key id\0').update(bytes).digest('base64url').slice(0, 11);
  return { id, bytes };
}

/**
 * Where the master key is: systemd's credential `rackstart-master-key` (LoadCredential= or LoadCredentialEncrypted=,
 * which puts it under $CREDENTIALS_DIRECTORY) unless a file is configured.
 */
export function masterKeyPath(configured: string | undefined, environment: NodeJS.ProcessEnv): string {
  const directory = environment['CREDENTIALS_DIRECTORY'];
  if (configured !== undefined) return configured;
  if (directory === undefined) throw invalid('no master key: name its file, or hand over a systemd credential');
  return join(directory, 'rackstart-master-key');
}

/**
 * Rejects with `config.invalid` when it is missing, not 32 bytes, or readable by others than its owner. Of a file that is
 * root's its group may read, since that is how we read it: by our group, or as systemd's credential, on which an ACL for us
 * shows as the group's bits.
 */
export async function loadMasterKey(path: string): Promise<MasterKey> {
  const file = await open(path).catch((cause: unknown) => {
    throw invalid(`master key ${path} cannot be read`, cause);
  });
  try {
    const { mode, uid } = await file.stat();
    const handedOver = uid === 0 && process.geteuid?.() !== 0;
    if ((mode & (handedOver ? 0o037 : 0o077)) !== 0)
      throw invalid(`master key ${path} can be read by others: chmod 0600 it`);
    const bytes = Buffer.alloc(KEY_BYTES + 1);
    const { bytesRead } = await file.read(bytes);
    return masterKey(bytes.subarray(0, bytesRead));
  } finally {
    await file.close();
  }
}

/** Writes a new key for its owner's eyes only; rejects with `config.invalid` when there is a file already. */
export async function generateMasterKey(path: string, ids: Ids): Promise<MasterKey> {
  const key = masterKey(ids.random(KEY_BYTES));
  // Half a key would keep the appliance from starting; one lost in a power cut takes with it everything that was sealed.
  await writeOnce(path, key.bytes, 0o600).catch((cause: unknown) => {
    throw invalid(`master key ${path} cannot be written`, cause);
  });
  return key;
}

const VERSION = 'v1';
const ALGORITHM = 'aes-256-gcm';
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

function context(keyId: string, machineId: string): Buffer {
  return Buffer.from(`${VERSION}.${keyId}.${machineId}`, 'utf8');
}

interface Sealed {
  keyId: string;
  nonce: Buffer;
  ciphertext: Buffer;
  tag: Buffer;
}

function parse(sealed: string, machineId: string): Sealed {
  const [version, keyId, ...parts] = sealed.split('.');
  const decoded = parts.map((part) => Buffer.from(part, 'base64url'));
  const [nonce, ciphertext, tag] = decoded;
  // One spelling only: base64url has bits at its end that decode to nothing.
  const canonical = decoded.every((bytes, index) => bytes.toString('base64url') === parts[index]);
  const whole = version === VERSION && keyId !== undefined && parts.length === 3 && canonical;
  if (!whole || nonce?.length !== NONCE_BYTES || ciphertext === undefined || tag?.length !== TAG_BYTES) {
    throw mismatch(machineId, 'is not in the form this version writes');
  }
  return { keyId, nonce, ciphertext, tag };
}

function mismatch(machineId: string, what: string, cause?: unknown): RackstartError {
  return new RackstartError('key.mismatch', `The BMC credential of machine ${machineId} ${what}`, { cause });
}

function invalid(message: string, cause?: unknown): RackstartError {
  return new RackstartError('config.invalid', message, { cause });
}
