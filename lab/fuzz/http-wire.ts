import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Server } from 'node:http';
import { connect } from 'node:net';
import { duplexPair } from 'node:stream';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';

import { turns } from './campaign.ts';

export interface HttpAnswer {
  readonly status: number;
  /** All headers as they came, lower case. */
  readonly head: string;
  readonly body: string;
}

export interface WholeRequest {
  readonly bytes: Buffer;
  /** Whether it is a HEAD, whose answer has no body. */
  readonly head: boolean;
}

/** A connection that asks one thing after another, and is made anew when the server has closed it. */
export class HttpWire {
  readonly #open: () => Duplex;
  #stream: Duplex | undefined;
  #received = Buffer.alloc(0);
  #closed = true;

  constructor(open: () => Duplex) {
    this.#open = open;
  }

  /** The answer to one whole request; undefined when the server hung up instead. `onWait` is asked now and then meanwhile. */
  async ask(request: Buffer, head: boolean, onWait: () => Promise<void>): Promise<HttpAnswer | undefined> {
    this.#connected().write(request);
    return this.#answer(request, head, onWait);
  }

  /** The answers to requests that are sent all at once, in their order; fewer when the server hung up. */
  async askAll(requests: readonly WholeRequest[], onWait: () => Promise<void>): Promise<HttpAnswer[]> {
    this.#connected().write(Buffer.concat(requests.map(({ bytes }) => bytes)));
    const answers: HttpAnswer[] = [];
    for (const { bytes, head } of requests) {
      const answer = await this.#answer(bytes, head, onWait);
      if (answer === undefined) break;
      answers.push(answer);
    }
    return answers;
  }

  /** Asks, and hangs up when something came of the answer, or nothing for a while. */
  async abandon(request: Buffer): Promise<void> {
    this.#connected().write(request);
    for (let turn = 0; turn < 6 && this.#received.length === 0 && !this.#closed; turn++) await turns(1);
    this.hangUp();
  }

  /** Sends what may be no request on a connection of its own, hangs up, and gives back all that came. */
  async shout(bytes: Buffer, onWait: () => Promise<void>): Promise<string> {
    const deadline = performance.now() + LONGEST_WAIT;
    this.hangUp();
    const stream = this.#connected();
    stream.write(bytes);
    for (let turn = 0; turn < 6 && this.#received.length === 0 && !this.#closed; turn++) await turns(1);
    stream.end();
    for (let waited = 1; !this.#closed; waited++) {
      if (performance.now() > deadline) throw new Error(`never closed: ${bytes.subarray(0, 200).toString('latin1')}`);
      await turns(1);
      if (waited % 40 === 0) await onWait();
    }
    const text = this.#received.toString('latin1');
    this.#received = Buffer.alloc(0);
    return text;
  }

  hangUp(): void {
    this.#closed = true;
    this.#stream?.destroy();
  }

  async #answer(request: Buffer, head: boolean, onWait: () => Promise<void>): Promise<HttpAnswer | undefined> {
    const deadline = performance.now() + LONGEST_WAIT;
    for (let waited = 1; ; waited++) {
      const answer = this.#take(head);
      if (answer !== undefined) return answer;
      if (this.#closed) return undefined;
      if (performance.now() > deadline) throw new Error(`no answer to ${request.subarray(0, 200).toString('latin1')}`);
      await turns(1);
      if (waited % 40 === 0) await onWait();
    }
  }

  #connected(): Duplex {
    if (this.#stream !== undefined && !this.#closed) return this.#stream;
    const stream = this.#open();
    this.#stream = stream;
    this.#closed = false;
    this.#received = Buffer.alloc(0);
    stream.on('data', (bytes: Buffer) => {
      if (stream === this.#stream) this.#received = Buffer.concat([this.#received, bytes]);
    });
    const onEnd = () => {
      if (stream === this.#stream) this.#closed = true;
    };
    // Hung up on while it still sends: that is an answer, too.
    stream
      .on('error', onEnd)
      .on('close', onEnd)
      .on('end', () => stream.end());
    return stream;
  }

  #take(head: boolean): HttpAnswer | undefined {
    const end = this.#received.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    const text = this.#received.toString('latin1', 0, end);
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1]);
    if (status >= 100 && status < 200) {
      this.#received = this.#received.subarray(end + 4);
      return this.#take(head);
    }
    const hasBody = !head && status !== 204 && status !== 304;
    const length = hasBody ? Number(/^content-length: (\d+)/im.exec(text)?.[1] ?? 0) : 0;
    if (this.#received.length < end + 4 + length) return undefined;
    const body = this.#received.toString('latin1', end + 4, end + 4 + length);
    this.#received = this.#received.subarray(end + 4 + length);
    // Chunks are Node's own words (417), and not read; whoever is told that the connection closes does not use it again.
    if (/^(connection: close|transfer-encoding: chunked)/im.test(text)) {
      this.#closed = true;
      this.#stream?.end();
    }
    return { status, head: text.toLowerCase(), body };
  }
}

export function overTcp(port: number, localAddress: () => string): () => Duplex {
  return () => connect({ host: SERVER_ADDRESS, port, localAddress: localAddress() });
}

/** By TLS, to a server that `ca` vouches for. */
export function overTls(port: number, localAddress: () => string, ca: string): () => Duplex {
  const open = overTcp(port, localAddress);
  return () => connectTls({ socket: open(), host: SERVER_ADDRESS, ca });
}

/** In memory, behind TLS where there is any: the server's own parser, without a socket. */
export function inMemory(server: Server, secure: boolean): () => Duplex {
  return () => {
    const [near, far] = duplexPair();
    // An end of a real socket learns when the other is destroyed; here somebody must tell it, after what was sent.
    far.once('close', () => setImmediate(() => near.destroy()));
    near.once('close', () => setImmediate(() => far.destroy()));
    const socket = Object.assign(far, { remoteAddress: '10.77.2.250', localAddress: SERVER_ADDRESS, bytesWritten: 0 });
    server.emit(secure ? 'secureConnection' : 'connection', socket);
    return near;
  };
}

/** The servers behind these ports, which Node names when they answer: `ask` makes each answer once. */
export async function serversOf(ports: readonly number[], ask: (port: number) => Promise<unknown>): Promise<Server[]> {
  const found = new Map<number, Server>();
  const onRequest = (message: unknown) => {
    const { server } = message as { server: Server };
    const address = server.address();
    if (address !== null && typeof address === 'object') found.set(address.port, server);
  };
  subscribe('http.server.request.start', onRequest);
  try {
    for (const port of ports) await ask(port);
  } finally {
    unsubscribe('http.server.request.start', onRequest);
  }
  return ports.map((port) => found.get(port)!);
}

const SERVER_ADDRESS = '10.77.0.1';
// Milliseconds, on a machine that is busy with other things.
const LONGEST_WAIT = 30_000;
