import { request as plain } from 'node:http';
import { request as secure } from 'node:https';
import { buffer } from 'node:stream/consumers';

export interface Question {
  readonly method?: 'GET' | 'POST';
  /** The machine's own address: what the request comes from. */
  readonly from: string;
  /** Trusted for this request, and nothing else is; for https. */
  readonly ca?: string;
  readonly bearer?: string;
  readonly body?: URLSearchParams | string;
  readonly signal: AbortSignal;
}

export interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

/** One HTTP request on a connection of its own, as iPXE and curl make it. */
export async function ask(url: string, { method = 'GET', from, ca, bearer, body, signal }: Question): Promise<Answer> {
  const type = body instanceof URLSearchParams ? 'application/x-www-form-urlencoded' : 'text/plain';
  const options = {
    method,
    localAddress: from,
    agent: false,
    signal,
    headers: {
      ...(body === undefined ? {} : { 'content-type': type }),
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
    },
  };
  return new Promise((resolve, reject) => {
    const sent = url.startsWith('https:') ? secure(url, { ...options, ca }) : plain(url, options);
    sent.once('error', reject);
    sent.once('response', (response) => {
      buffer(response).then((bytes) => resolve({ status: response.statusCode ?? 0, body: bytes }), reject);
    });
    sent.end(body?.toString());
  });
}

/** The body of a 2xx answer; rejects with what the appliance said otherwise. */
export async function demand(url: string, question: Question): Promise<Buffer> {
  const { status, body } = await ask(url, question);
  if (status >= 200 && status < 300) return body;
  throw new Error(`${question.method ?? 'GET'} ${new URL(url).pathname}: ${status} ${body.toString('utf8', 0, 300)}`);
}
