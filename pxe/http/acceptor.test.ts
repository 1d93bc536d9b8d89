import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';

import { test } from 'tap';

import { openAcceptor } from './acceptor.ts';

test('a crowd is accepted in fewer turns of the loop than it has heads, and is answered', async (t) => {
  const server = createServer((_request, response) => response.end('served'));
  server.listen({ host: '127.0.0.1', port: 0, reusePort: true });
  await once(server, 'listening');
  const acceptors = await Promise.all([1, 2, 3].map(() => openAcceptor(server, 511)));
  t.teardown(() => {
    for (const each of [server, ...acceptors]) each.close();
    server.closeAllConnections();
  });
  let turn = 0;
  const turns = new Set<number>();
  server.on('connection', () => turns.add(turn));
  const crowd = Array.from({ length: CROWD }, () => {
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
    client.end('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    return client.toArray().then((chunks) => Buffer.concat(chunks as Buffer[]).toString());
  });
  const answers = Promise.all(crowd);
  const count = () => {
    turn++;
    counter = setImmediate(count);
  };
  let counter = setImmediate(count);
  t.equal((await answers).filter((answer) => answer.endsWith('served')).length, CROWD);
  clearImmediate(counter);
  t.ok(turns.size < CROWD / 2, `${turns.size} turns`);
});

// Spread over four sockets: about 50 turns, by chance some more. One socket takes 200.
const CROWD = 200;
