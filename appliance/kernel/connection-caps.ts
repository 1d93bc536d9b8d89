import type { Server } from 'node:http';
import type { BlockList, Socket } from 'node:net';

import type { Millis } from './clock.ts';

export interface ConnectionCaps {
  /** Without a byte either way, a reader that takes nothing of its answer included. */
  readonly idle: Millis;
  readonly connections: number;
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
  const perAddress = new Map<string, number>();
  server.maxConnections = connections;
  server.setTimeout(idle);
  server.on('connection', (socket: Socket) => {
    const address = socket.remoteAddress ?? '';
    if (proxies?.check(address, socket.remoteFamily === 'IPv6' ? 'ipv6' : 'ipv4')) return;
    const held = (perAddress.get(address) ?? 0) + 1;
    perAddress.set(address, held);
    socket.once('close', () => {
      const left = (perAddress.get(address) ?? 1) - 1;
      if (left === 0) perAddress.delete(address);
      else perAddress.set(address, left);
    });
    if (held > connectionsPerAddress) socket.destroy();
  });
}
