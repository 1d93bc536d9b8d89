import { createReadStream } from 'node:fs';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';

/** An answer that says no; `code` is the API's stable one. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, body: string) {
    const { code = 'unknown', message = body } = problemIn(body);
    super(`${String(status)} ${code}: ${message}`);
    this.status = status;
    this.code = code;
  }
}

/** Speaks the public API through a unix socket, which reaches into a rack's network from outside. */
export class ApiClient {
  readonly #socketPath: string;
  readonly #key: string;

  constructor(socketPath: string, key: string) {
    this.#socketPath = socketPath;
    this.#key = key;
  }

  /** The same appliance, asked by somebody else. */
  as(key: string): ApiClient {
    return new ApiClient(this.#socketPath, key);
  }

  async get<T>(path: string): Promise<T> {
    return (await this.#call('GET', path)) as T;
  }

  /** With a key, the same again is the same answer (`Idempotency-Key`). */
  async post<T>(path: string, body: unknown, idempotencyKey?: string): Promise<T> {
    return (await this.#call('POST', path, JSON.stringify(body), idempotencyKey)) as T;
  }

  async delete<T>(path: string): Promise<T> {
    return (await this.#call('DELETE', path)) as T;
  }

  /** Sends a file as it is. */
  async upload<T>(path: string, file: string, type: string): Promise<T> {
    const { sent, answer } = this.#send('POST', path, { 'content-type': type });
    // An answer that comes before the end of the file is a no; then the sending fails, and says less.
    const sending = pipeline(createReadStream(file), sent).catch(() => undefined);
    const response = await answer;
    const body = (await read(response)) as T;
    await sending;
    return body;
  }

  async #call(method: string, path: string, body?: string, idempotencyKey?: string): Promise<unknown> {
    const { sent, answer } = this.#send(method, path, {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }),
    });
    sent.end(body);
    return read(await answer);
  }

  #send(method: string, path: string, headers: Record<string, string>) {
    const sent = request({
      socketPath: this.#socketPath,
      method,
      path: `/api/v1${path}`,
      headers: { host: 'rackstart', authorization: `Bearer ${this.#key}`, ...headers },
    });
    const answer = new Promise<IncomingMessage>((resolve, reject) => {
      sent.once('response', resolve);
      sent.once('error', reject);
    });
    return { sent, answer };
  }
}

async function read(response: IncomingMessage): Promise<unknown> {
  const body = await text(response);
  const status = response.statusCode ?? 0;
  if (status >= 400) throw new ApiError(status, body);
  return body === '' ? undefined : JSON.parse(body);
}

function problemIn(body: string): { code?: string; message?: string } {
  try {
    return (JSON.parse(body) as { error: { code: string; message: string } }).error;
  } catch {
    return {};
  }
}
