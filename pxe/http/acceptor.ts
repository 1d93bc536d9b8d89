import { once } from 'node:events';
import type { Server as HttpServer } from 'node:http';
import { createServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';

/**
 * One more socket on a server's port, whose connections are the server's own. Node takes one connection of a socket in each turn
 * of the event loop, however many wait; the kernel spreads them over all sockets of a port (SO_REUSEPORT, socket(7)). The server
 * itself must listen with `reusePort`. Whoever opens it closes it.
 */
export async function openAcceptor(server: HttpServer, backlog: number): Promise<Server> {
  const { address: host, port } = server.address() as AddressInfo;
  const acceptor = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => server.emit('connection', socket));
  acceptor.listen({ host, port, backlog, reusePort: true });
  await once(acceptor, 'listening');
  return acceptor;
}
