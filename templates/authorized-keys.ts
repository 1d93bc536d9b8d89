import { RackstartError } from '../appliance/kernel/errors.ts';

const keyTypes = [
  'ssh-ed25519',
  'ssh-rsa',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'sk-ssh-ed25519@openssh.com',
  'sk-ecdsa-sha2-nistp256@openssh.com',
];

/**
 * The text of an authorized_keys file (sshd(8)): one `type base64 comment` a line. Options in front are refused: they
 * would run commands. Error: `config.invalid`, naming the key by its position.
 */
export function authorizedKeys(keys: readonly string[]): string {
  if (keys.length === 0) throw new RackstartError('config.invalid', 'Without an SSH key nobody could log in.');
  return keys.map((key, index) => `${checked(key, index)}\n`).join('');
}

function checked(key: string, index: number): string {
  const match = /^(?<type>[a-z0-9@.-]+) (?<blob>[A-Za-z0-9+/]+={0,2})(?: [^\p{Cc}\u2028\u2029]{0,256})?$/u.exec(
    key.trim(),
  );
  const { type = '', blob = '' } = match?.groups ?? {};
  if (!keyTypes.includes(type) || nameInBlob(blob) !== type) {
    throw new RackstartError('config.invalid', `SSH key ${index + 1} is not an OpenSSH public key.`, {
      fields: [{ field: `/sshKeys/${index}`, message: 'must be one line: type, base64, comment' }],
    });
  }
  return key.trim();
}

/** RFC 4253 §6.6: a public key begins with the length and text of its own type. */
function nameInBlob(base64: string): string | undefined {
  const blob = Buffer.from(base64, 'base64');
  if (blob.length < 4 || blob.toString('base64') !== base64) return undefined;
  return blob.subarray(4, 4 + blob.readUInt32BE(0)).toString('latin1');
}
