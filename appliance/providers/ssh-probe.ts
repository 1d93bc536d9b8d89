import ssh2 from 'ssh2';
import type { ParsedKey } from 'ssh2';

import { RackstartError } from '../kernel/errors.ts';
import type { Millis } from '../kernel/clock.ts';

export interface SshTarget {
  readonly host: string;
  readonly port: number;
  readonly username: string;
  /** `ssh-ed25519 AAAA…`, the key that our own ramdisk reported for this machine. */
  readonly hostKey: string;
  /** The tenant's public key in authorized_keys form. */
  readonly publicKey: string;
}

/**
 * Proves that the tenant can log in, without being able to log in ourselves: the host key must be the expected one, and the
 * server must accept the tenant's public key in the query of RFC 4252 §7, after which we refuse to sign and hang up.
 *
 * Errors: `ssh.unreachable`, `ssh.host-key`, `ssh.key-refused`.
 */
export function probeSsh(target: SshTarget, timeout: Millis, signal: AbortSignal): Promise<void> {
  const { host, port, username } = target;
  const where = `${host}:${String(port)}`;
  const expected = Buffer.from(target.hostKey.split(' ')[1] ?? '', 'base64');
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client();
    let verdict: RackstartError | 'accepted' | undefined;
    const settle = (cause?: unknown) => {
      signal.removeEventListener('abort', stop);
      client.destroy();
      if (verdict === 'accepted') resolve();
      else {
        const unreachable = `SSH at ${where} does not answer as it should.`;
        const details = { address: where, errno: errnoOf(cause) };
        reject(verdict ?? new RackstartError('ssh.unreachable', unreachable, { cause, details }));
      }
    };
    const stop = () => settle(signal.reason);
    const agent = new PublicKeyAgent(target.publicKey, () => {
      verdict = 'accepted';
      settle();
    });
    client.on('error', (error: Error & { level?: string }) => {
      if (error.level === 'client-authentication') {
        verdict ??= new RackstartError('ssh.key-refused', `${username}@${where} does not accept the tenant's key.`);
      }
      settle(error);
    });
    client.on('close', () => settle());
    signal.addEventListener('abort', stop, { once: true });
    client.connect({
      host,
      port,
      username,
      agent,
      readyTimeout: timeout,
      timeout,
      algorithms: { serverHostKey: ['ssh-ed25519'] },
      hostVerifier: (key: Buffer) => {
        if (key.equals(expected)) return true;
        verdict = new RackstartError('ssh.host-key', `${where} shows another host key than the installed server's.`);
        return false;
      },
    });
  });
}

/**
 * `ECONNREFUSED` when a system answers and nothing listens there, `ECONNRESET` when what listens hangs up before a word of SSH,
 * `ETIMEDOUT` or `EHOSTUNREACH` when nobody answers.
 */
function errnoOf(cause: unknown): string {
  if (!(cause instanceof Error)) return 'ECONNRESET';
  if ('code' in cause && typeof cause.code === 'string' && /^E[A-Z]+$/.test(cause.code)) return cause.code;
  return 'level' in cause && cause.level === 'client-timeout' ? 'ETIMEDOUT' : 'ECONNRESET';
}

/** Holds a public key and nothing to sign with: being asked to sign is the proof that the server accepts the key. */
class PublicKeyAgent extends ssh2.BaseAgent {
  readonly #key: ParsedKey;
  readonly #accepted: () => void;

  constructor(publicKey: string, accepted: () => void) {
    super();
    const key = ssh2.utils.parseKey(publicKey);
    if (key instanceof Error) throw new RackstartError('request.invalid', 'The SSH key is malformed.', { cause: key });
    this.#key = key;
    this.#accepted = accepted;
  }

  override getIdentities(callback: (error: Error | undefined, keys?: ParsedKey[]) => void): void {
    callback(undefined, [this.#key]);
  }

  override sign(...args: unknown[]): void {
    this.#accepted();
    const callback = args.at(-1) as (error: Error) => void;
    callback(new Error('This agent never signs.'));
  }
}
