import type { ReadableStream } from 'node:stream/web';

import type { Secret } from '../kernel/secret.ts';
import type { ApiProblem } from './failure.ts';
import { ApiFailure, NoAnswer, UsageError } from './failure.ts';

export interface ApiAddress {
  /** Such as `http://127.0.0.1:7770`. */
  readonly url: string;
  readonly key: Secret;
}

/** A body that is sent as it comes. */
export interface Upload {
  readonly type: string;
  readonly content: ReadableStream<Uint8Array>;
}

type Call = Omit<RequestInit, 'headers'> & { headers?: Record<string, string> };

/** The public API, asked over HTTP. Errors: `ApiFailure` with what the appliance said; `NoAnswer`. */
export class ApiClient {
  readonly #url: URL;
  readonly #key: Secret;
  readonly #signal: AbortSignal;

  constructor({ url, key }: ApiAddress, signal: AbortSignal) {
    const base = URL.parse(url);
    if (base === null || !/^https?:$/.test(base.protocol)) {
      throw new UsageError(`${url} is no HTTP address.`, 'Write it like http://127.0.0.1:7770.');
    }
    this.#url = base;
    this.#key = key;
    this.#signal = signal;
  }

  get(path: string): Promise<unknown> {
    return this.#call(path, { method: 'GET' });
  }

  post(path: string, body: object, headers: Record<string, string> = {}): Promise<unknown> {
    return this.#call(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });
  }

  patch(path: string, body: object): Promise<unknown> {
    const headers = { 'content-type': 'application/json' };
    return this.#call(path, { method: 'PATCH', headers, body: JSON.stringify(body) });
  }

  /** A route that takes no body. */
  act(path: string): Promise<unknown> {
    return this.#call(path, { method: 'POST' });
  }

  upload(path: string, { type, content }: Upload): Promise<unknown> {
    return this.#call(path, { method: 'POST', headers: { 'content-type': type }, body: content, duplex: 'half' });
  }

  /** What follows `offset` of a file that is sent in parts. */
  part(path: string, offset: number, content: ReadableStream<Uint8Array>): Promise<unknown> {
    const headers = { 'content-type': 'application/offset+octet-stream', 'upload-offset': String(offset) };
    return this.#call(path, { method: 'PATCH', headers, body: content, duplex: 'half' });
  }

  delete(path: string): Promise<unknown> {
    return this.#call(path, { method: 'DELETE' });
  }

  /** Calls `onEvent` for each event that comes; until `close`. Where there is no live connection nothing is called. */
  live(onEvent: () => void): { close(): void } {
    const url = this.#address('/events/live');
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url, { headers: { authorization: this.#authorization() } });
    socket.onmessage = onEvent;
    socket.onerror = () => undefined;
    return { close: () => socket.close() };
  }

  /** What is too large to hold at once. */
  async download(path: string): Promise<ReadableStream<Uint8Array>> {
    const response = await this.#ask(path, { method: 'GET' });
    if (!response.ok) throw failureOf(response.status, await response.text());
    return response.body ?? new Blob([]).stream();
  }

  async #call(path: string, call: Call) {
    const response = await this.#ask(path, call);
    const text = await response.text();
    if (!response.ok) throw failureOf(response.status, text);
    return text === '' ? undefined : (JSON.parse(text) as unknown);
  }

  async #ask(path: string, { headers, ...init }: Call): Promise<Response> {
    try {
      return await fetch(this.#address(path), {
        ...init,
        headers: { ...headers, authorization: this.#authorization() },
        redirect: 'error',
        signal: this.#signal,
      });
    } catch (error) {
      if (this.#signal.aborted) throw error;
      const cause = error instanceof Error ? (error.cause ?? error) : error;
      throw new NoAnswer(
        `No appliance answers at ${this.#url.origin}.`,
        'Start one (rackstart serve), or say where it is: --url or RACKSTART_URL.',
        cause,
      );
    }
  }

  #address(path: string): URL {
    return new URL(`${this.#url.pathname.replace(/\/$/, '')}/api/v1${path}`, this.#url);
  }

  #authorization(): string {
    return `Bearer ${this.#key.reveal()}`;
  }
}

function failureOf(status: number, text: string): ApiFailure {
  const problem = problemIn(text);
  if (problem !== undefined) return new ApiFailure(problem);
  return new ApiFailure({
    code: `http.${String(status)}`,
    message: `The answer was ${String(status)} and not in the API's form: ${text.slice(0, 200)}`,
    hint: 'Check that this is the address of an appliance: --url or RACKSTART_URL.',
  });
}

function problemIn(text: string): ApiProblem | undefined {
  try {
    const { error } = JSON.parse(text) as { error?: Partial<ApiProblem> };
    const { code, message, hint } = error ?? {};
    if (code === undefined || message === undefined || hint === undefined) return undefined;
    return { ...error, code, message, hint };
  } catch {
    return undefined;
  }
}
