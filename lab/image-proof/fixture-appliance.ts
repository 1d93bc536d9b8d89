import { EventEmitter, once } from 'node:events';
import { createReadStream } from 'node:fs';
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';

import type { ChunkDirectory } from '../../images/chunk-directory.ts';

/** What came in, in the order it came: the form of a report or of the agent, or the text of an inspection or log. */
export interface Received {
  path: string;
  form: URLSearchParams;
  text: string;
  at: number;
}

export interface FixtureAppliance {
  httpsPort: number;
  httpPort: number;
  /** Answers the claim, or the next long poll. Values as they stand in the protocol. */
  order(lines: Readonly<Record<string, string | number>>): void;
  /** From now on every long poll is told that this boot is over. */
  cutOff(): void;
  received: readonly Received[];
  /** Resolves with the first, past or future, that `matches`. */
  wait(matches: (received: Received) => boolean): Promise<Received>;
  close(): void;
}

/**
 * The appliance's side of the boot protocol with no appliance behind it: it gives out the orders it is given, serves what is
 * frozen and one tar, and remembers what it is told. It checks nothing but the bearer and the credential.
 */
export async function startFixtureAppliance(options: {
  certificate: { key: string; certificate: string };
  frozen: ChunkDirectory;
  files: () => Promise<Buffer>;
  credential: string;
}): Promise<FixtureAppliance> {
  const bearer = 'bearer-of-the-image-proof-0123456789';
  const received: Received[] = [];
  const orders: string[] = [];
  const news = new EventEmitter();
  let over = false;

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const text = await bodyOf(request);
    const path = (request.url ?? '').split('?')[0] ?? '';
    const allowed = path.startsWith('/agent/') ? options.credential : bearer;
    if (path !== '/boot/v1/claim' && request.headers.authorization !== `Bearer ${allowed}`) {
      response.writeHead(403).end('{"error":{"code":"boot.token-refused","message":"no such bearer","hint":""}}');
      return;
    }
    if (path === '/boot/v1/files') {
      response.end(await options.files());
      return;
    }
    if (path === '/boot/v1/next' && orders.length === 0 && !over) {
      await Promise.race([once(news, 'order'), once(request.socket, 'close')]);
    }
    if (path === '/boot/v1/next' && over) {
      response.writeHead(410).end();
      return;
    }
    if (path === '/boot/v1/next' || path === '/boot/v1/claim') {
      response.end(`${path.endsWith('claim') ? `protocol=1\nbearer=${bearer}\n` : ''}${orders.shift() ?? ''}`);
      return;
    }
    const item = { path, text, form: new URLSearchParams(text), at: performance.now() };
    received.push(item);
    response.writeHead(204).end();
    news.emit('received', item);
  };

  const { key, certificate } = options.certificate;
  const https = createServer({ key, cert: certificate }, handler(answer));
  const http = createHttpServer(({ url = '' }, response) => {
    const digest = /[0-9a-f]{64}/.exec(url)?.[0] ?? '';
    const file = url.endsWith('/map') ? options.frozen.mapFile(digest) : options.frozen.chunkFile(digest);
    createReadStream(file).pipe(response);
  });
  return {
    httpsPort: await listen(https),
    httpPort: await listen(http),
    received,
    order(lines) {
      orders.push(
        Object.entries(lines)
          .map(([name, value]) => `${name}=${value}\n`)
          .join(''),
      );
      news.emit('order');
    },
    cutOff() {
      over = true;
      news.emit('order');
    },
    async wait(matches) {
      for (;;) {
        const found = received.find(matches);
        if (found) return found;
        await once(news, 'received');
      }
    },
    close() {
      for (const server of [https, http]) {
        server.close();
        server.closeAllConnections();
      }
    },
  };
}

function handler(answer: (request: IncomingMessage, response: ServerResponse) => Promise<void>): RequestListener {
  return (request, response) => {
    answer(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
  };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) text += chunk as string;
  return text;
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}
