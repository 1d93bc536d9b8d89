import { execFile } from 'node:child_process';
import { request as requestHttps } from 'node:https';
import { request as requestHttp } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly bytes: Buffer;
  readonly text: string;
}

export interface Question {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
  readonly ca?: string;
}

/** One request on a connection of its own. */
export function ask(url: string, { method = 'GET', headers = {}, body, ca }: Question = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = (url.startsWith('https') ? requestHttps : requestHttp)(
      url,
      { method, headers, agent: false, ...(ca === undefined ? {} : { ca }) },
      (response) => {
        buffer(response).then(
          (bytes) =>
            resolve({ status: response.statusCode ?? 0, headers: response.headers, bytes, text: bytes.toString() }),
          reject,
        );
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

export const form = (fields: Record<string, string>) => ({
  method: 'POST',
  headers: { 'content-type': 'application/x-www-form-urlencoded' },
  body: new URLSearchParams(fields).toString(),
});

export const plain = (body: string | Buffer) => ({ method: 'POST', headers: { 'content-type': 'text/plain' }, body });

/** curl with these arguments: what it wrote to standard output. */
export async function curl(...args: string[]): Promise<Buffer> {
  const { stdout } = await promisify(execFile)('curl', ['--silent', '--show-error', '--noproxy', '*', ...args], {
    encoding: 'buffer',
    maxBuffer: 16 * 1024 * 1024,
  });
  return stdout;
}
