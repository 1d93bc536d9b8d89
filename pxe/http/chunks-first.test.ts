import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { test } from 'tap';
import type { Test } from 'tap';

import type { Log } from '../../appliance/kernel/log.ts';
import { Turnstile } from '../../appliance/kernel/turnstile.ts';
import type { FrozenSource, Stored } from '../../images/frozen-images.ts';
import { ask } from './ask.fixture.ts';
import { chunksFirst } from './chunks-first.ts';
import { PieceSender } from './piece-sender.ts';

const [here, absent, damaged, cut] = ['a', 'b', 'c', 'd'].map((digit) => digit.repeat(64)) as [
  ...[string, string, string, string],
];
const PIECE = Buffer.alloc(100_000, 'piece');

/** A server whose others say what they are asked. */
async function start(t: Test): Promise<{ url: string; logged: string[] }> {
  const logged: string[] = [];
  const deps = { frozen, sender: new PieceSender(new Turnstile(4, 4)), log: recordingLog(logged) };
  const others = chunksFirst(deps, ({ method, url }, response) => {
    response.setHeader('x-others', 'asked');
    response.end(`${method} ${url}`);
  });
  const server = createServer(others).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, logged };
}

const frozen: Pick<FrozenSource, 'chunk'> = {
  async chunk(sha256) {
    if (sha256 === here) return stored(3, () => undefined);
    if (sha256 === damaged) throw new Error('damaged');
    // More in front of the fault than is sent at once.
    if (sha256 === cut) return stored(40, (index) => index === 39 && fail());
    return undefined;
  },
};

function stored(count: number, before: (index: number) => unknown): Stored {
  return {
    bytes: count * PIECE.length,
    read: async function* () {
      for (let index = 0; index < count; index++) {
        before(index);
        yield PIECE;
      }
    },
  };
}

function fail(): never {
  throw new Error('spoiled');
}

test('who asks for a whole chunk has it, and nobody else is asked', async (t) => {
  const { url } = await start(t);
  const { status, headers, bytes } = await ask(`${url}/chunk/${here}`);
  t.equal(status, 200);
  t.ok(bytes.equals(Buffer.concat([PIECE, PIECE, PIECE])));
  t.match(headers, { etag: `"${here}"`, 'content-length': '300000', 'x-others': undefined });
});

test('any other question is for the others', async (t) => {
  const { url, logged } = await start(t);
  const questions: [string, Parameters<typeof ask>[1]?][] = [
    [`/chunk/${here}`, { method: 'HEAD' }],
    [`/chunk/${here}`, { method: 'POST' }],
    [`/chunk/${here}`, { headers: { range: 'bytes=0-1' } }],
    [`/chunk/${here}`, { headers: { 'if-none-match': '*' } }],
    [`/chunk/${here}?x`],
    [`/chunk/${here}/`],
    [`/chunk/${here.toUpperCase()}`],
    [`/image/${here}/map`],
    [`/chunk/${absent}`],
    [`/chunk/${damaged}`],
  ];
  for (const [path, question] of questions) {
    const { headers, text } = await ask(url + path, question);
    t.equal(headers['x-others'], 'asked', path);
    if (question?.method !== 'HEAD') t.equal(text, `${question?.method ?? 'GET'} ${path}`);
  }
  t.same(logged, [], 'and they tell what is wrong');
});

test('a chunk that can not be read to its end is cut, and operators are told', async (t) => {
  const { url, logged } = await start(t);
  await t.rejects(ask(`${url}/chunk/${cut}`), { code: 'ECONNRESET' });
  t.same(logged, ['a stored image cannot be sent']);
});

function recordingLog(lines: string[]): Log {
  const write = (_fields: object, message: string) => {
    lines.push(message);
  };
  return { debug: write, info: write, warn: write, error: write, child: () => recordingLog(lines) };
}
