import { createHash } from 'node:crypto';
import { request as plain } from 'node:http';
import type { Agent, IncomingMessage } from 'node:http';
import { request as secure } from 'node:https';
import { buffer } from 'node:stream/consumers';
import type { SecureContext } from 'node:tls';

export interface Question {
  readonly method?: 'GET' | 'POST';
  /** The machine's own address: what the request comes from. */
  readonly from: string;
  /** Whom to trust, and nobody else; for https. */
  readonly trust?: SecureContext | undefined;
  readonly bearer?: string;
  readonly body?: URLSearchParams | string;
  /** Keeps the connection for the next request; one connection for each, unless told. */
  readonly agent?: Agent;
  /** The longest the whole of it may take, ms; 30 s unless told. */
  readonly within?: number;
  readonly signal: AbortSignal;
}

export interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

/** One HTTP request, as iPXE and curl make it. Rejects when there is no answer. */
export async function ask(url: string, question: Question): Promise<Answer> {
  return send(url, question, async (response) => ({
    status: response.statusCode ?? 0,
    body: await buffer(response),
  }));
}

/** The body of a 2xx answer; rejects with what the appliance said otherwise. */
export async function demand(url: string, question: Question): Promise<Buffer> {
  const { status, body } = await ask(url, question);
  if (isFine(status)) return body;
  throw refused(url, question, status, body);
}

/** What is left of a file that went by: nobody keeps kernels and images by the thousand. */
export interface Download {
  readonly bytes: number;
  readonly sha256: string;
  /** The end of it, from a position divisible by four. */
  readonly tail: Buffer;
}

/** Fetches a whole file. Rejects unless all of it came. */
export function download(url: string, question: Question): Promise<Download> {
  return send(url, question, async (response) => {
    const status = response.statusCode ?? 0;
    if (!isFine(status)) throw refused(url, question, status, await buffer(response));
    const hash = createHash('sha256');
    let bytes = 0;
    let tail = Buffer.alloc(0);
    for await (const chunk of response as AsyncIterable<Buffer>) {
      hash.update(chunk);
      bytes += chunk.length;
      tail = Buffer.concat([tail, chunk]);
      const surplus = Math.max(0, tail.length - TAIL);
      tail = tail.subarray(surplus - (surplus % 4));
    }
    return { bytes, sha256: hash.digest('hex'), tail };
  });
}

const TAIL = 16 * 1024;

function send<T>(
  url: string,
  { method = 'GET', from, trust, bearer, body, agent, within = 30_000, signal }: Question,
  read: (response: IncomingMessage) => Promise<T>,
): Promise<T> {
  const type = body instanceof URLSearchParams ? 'application/x-www-form-urlencoded' : 'text/plain';
  const options = {
    method,
    localAddress: from,
    agent: agent ?? false,
    signal: AbortSignal.any([signal, AbortSignal.timeout(within)]),
    headers: {
      ...(body === undefined ? {} : { 'content-type': type }),
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
    },
  } as const;
  return new Promise((resolve, reject) => {
    const sent = url.startsWith('https:')
      ? secure(url, { ...options, ...(trust === undefined ? {} : { secureContext: trust }) })
      : plain(url, options);
    sent.once('error', reject);
    sent.once('response', (response) => void read(response).then(resolve, reject));
    sent.end(body?.toString());
  });
}

function isFine(status: number): boolean {
  return status >= 200 && status < 300;
}

function refused(url: string, { method = 'GET' }: Question, status: number, body: Buffer): Error {
  return new Error(`${method} ${new URL(url).pathname}: ${status} ${body.toString('utf8', 0, 300)}`);
}
