import { once } from 'node:events';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';

import ssh2 from 'ssh2';
import type { Connection, ParsedKey, PublicKeyAuthContext } from 'ssh2';

/** Whom one meets at port 22 of an address. */
export interface SshHost {
  readonly address: string;
  readonly hostname: string;
  readonly hostKey: { readonly private: string };
  /** As in the file of that name. */
  readonly authorizedKeys: string;
}

/**
 * Port 22 of all servers in this process: one listening socket, behind which each address has its own host key and its own keys. Where
 * nobody runs the connection is ended. Only ed25519 keys of root are let in, and one command is known: `hostname`.
 */
export class SshDoor {
  readonly #hosts = new Map<string, SshHost>();
  readonly #connections = new Set<Socket>();
  readonly #server = createServer((socket) => this.#greet(socket));

  async listen(port = 22): Promise<number> {
    this.#server.listen(port, '0.0.0.0');
    await once(this.#server, 'listening');
    const address = this.#server.address();
    return typeof address === 'object' ? (address?.port ?? port) : port;
  }

  /** Until `signal` aborts. */
  open(host: SshHost, signal: AbortSignal): void {
    this.#hosts.set(host.address, host);
    signal.addEventListener('abort', () => {
      if (this.#hosts.get(host.address) === host) this.#hosts.delete(host.address);
    });
  }

  /** How many hosts are up. */
  get size(): number {
    return this.#hosts.size;
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#connections) socket.destroy();
    await closed;
  }

  #greet(socket: Socket): void {
    this.#connections.add(socket);
    socket.on('close', () => this.#connections.delete(socket));
    socket.on('error', () => undefined); // whoever probes hangs up as he likes
    const host = this.#hosts.get(socket.localAddress ?? '');
    if (host === undefined) {
      socket.destroy();
      return;
    }
    // A server for a connection: what it costs is paid when somebody comes, and a machine that nobody asks holds nothing.
    const server = new ssh2.Server({ hostKeys: [host.hostKey.private] }, (client) => serve(client, host));
    server.injectSocket(socket);
  }
}

function serve(client: Connection, { hostname, authorizedKeys }: SshHost): void {
  const known = authorizedKeys
    .split('\n')
    .map((line) => ssh2.utils.parseKey(line))
    .filter((key): key is ParsedKey => !(key instanceof Error));
  client.on('error', () => undefined);
  client.on('authentication', (context) => {
    if (context.method === 'publickey' && context.username === 'root' && isKnown(context)) context.accept();
    else context.reject(['publickey']);
  });
  client.on('session', (accept) => {
    accept().on('exec', (acceptCommand, _reject, { command }) => {
      const channel = acceptCommand();
      if (command === 'hostname') channel.write(`${hostname}\n`);
      channel.exit(command === 'hostname' ? 0 : 127);
      channel.end();
    });
  });

  // RFC 4252 §7: without a signature it is the question whether the key would do.
  function isKnown({ key, blob, signature, hashAlgo }: PublicKeyAuthContext): boolean {
    const held = known.find((each) => each.type === key.algo && each.getPublicSSH().equals(key.data));
    if (held === undefined) return false;
    return signature === undefined || (blob !== undefined && held.verify(blob, signature, hashAlgo));
  }
}
