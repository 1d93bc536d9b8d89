import type { Server } from 'node:http';
import type { BlockList, Socket } from 'node:net';

import { clientHost } from './client-host.ts';
import type { Millis } from './clock.ts';

export interface ConnectionCaps {
  /** Without a byte either way, a reader that takes nothing of its answer included. */
  readonly idle: Millis;
  readonly connections: number;
  /** Or, of IPv6, per /64. */
  readonly connectionsPerAddress: number;
}

/**
 * Silent clients lose their connection, and no address can take them all; those of `proxies` come for many clients and
 * are not counted. For HTTP and HTTPS servers alike.
 */
export function capConnections(
  server: Server,
  { idle, connections, connectionsPerAddress }: ConnectionCaps,
  proxies?: BlockList,
): void {
  const perHost = new Map<string, number>();
  let all = 0;
  server.setTimeout(idle);
  server.on('connection', (socket: Socket) => {
    all++;
    socket.once('close', () => all--);
    // `maxConnections` would count those that the server has accepted itself, and others accept for it (pxe/http/acceptor.ts).
    if (all > connections) socket.destroy();
    const address = socket.remoteAddress ?? '';
    if (proxies?.check(address, socket.remoteFamily === 'IPv6' ? 'ipv6' : 'ipv4')) return;
    const host = clientHost(address);
    const held = (perHost.get(host) ?? 0) + 1;
    perHost.set(host, held);
    socket.once('close', () => {
      const left = (perHost.get(host) ?? 1) - 1;
      if (left === 0) perHost.delete(host);
      else perHost.set(host, left);
    });
    if (held > connectionsPerAddress) socket.destroy();
  });
}
