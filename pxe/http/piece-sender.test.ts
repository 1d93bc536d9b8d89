import { EventEmitter, once } from 'node:events';
import type { ServerResponse } from 'node:http';

import { test } from 'tap';

import { Turnstile } from '../../appliance/kernel/turnstile.ts';
import { PieceSender } from './piece-sender.ts';

/** An answer whose client takes what it is given when it is told to. */
class TestAnswer extends EventEmitter {
  headersSent = false;
  destroyed = false;
  ended = false;
  /** Pieces that were given, batch by batch. */
  readonly batches: number[] = [];
  readonly #takesAll: boolean;

  constructor(takesAll: boolean) {
    super();
    this.#takesAll = takesAll;
  }

  /** As `send` is told of it. */
  get asked(): [ServerResponse, () => void] {
    return [this as unknown as ServerResponse, () => (this.headersSent = true)];
  }

  cork(): void {
    this.batches.push(0);
  }

  uncork(): void {
    this.emit('batch');
  }

  write(): boolean {
    this.batches[this.batches.length - 1]!++;
    return this.#takesAll;
  }

  /** Uncorks, as that of Node does. */
  end(): void {
    this.ended = true;
    this.emit('batch');
  }

  destroy(): void {
    this.destroyed = true;
    this.emit('close');
  }
}

const PIECE = Buffer.from('piece');

async function* pieces(count: number, end: () => void = () => undefined): AsyncGenerator<Buffer> {
  try {
    for (let index = 0; index < count; index++) yield PIECE;
  } finally {
    end();
  }
}

test('a client is given a chunk at once, and the next when it has taken that', async (t) => {
  const sender = new PieceSender(new Turnstile(1, 1));
  const answer = new TestAnswer(false);
  const sending = sender.send(...answer.asked, pieces(40));
  for (const given of [[17], [17, 17], [17, 17, 6]]) {
    await once(answer, 'batch');
    t.same(answer.batches, given);
    answer.emit('drain');
  }
  await sending;
  t.ok(answer.ended);
  t.equal(answer.listenerCount('drain') + answer.listenerCount('close'), 0, 'nothing is left behind');
});

test('of clients that stall, so many keep a chunk in memory, and the others a piece', async (t) => {
  const sender = new PieceSender(new Turnstile(100, 1));
  const stalled = Array.from({ length: 70 }, () => new TestAnswer(false));
  const given = Promise.all(stalled.map((answer) => once(answer, 'batch')));
  const sending = stalled.map((answer) => sender.send(...answer.asked, pieces(1000)));
  await given;
  t.same(Map.groupBy(stalled, ({ batches }) => batches[0]).get(17)?.length, 64);
  t.same(Map.groupBy(stalled, ({ batches }) => batches[0]).get(1)?.length, 6);
  stalled.find(({ batches }) => batches[0] === 17)!.destroy();
  await Promise.race(sending);
  stalled[69]!.emit('drain');
  await once(stalled[69]!, 'batch');
  t.same(stalled[69]!.batches, [1, 17], 'when one of them goes, its room is another one’s');
  for (const answer of stalled) answer.destroy();
  await Promise.all(sending);
});

test('clients who take all that they are given take turns', async (t) => {
  const sender = new PieceSender(new Turnstile(1, 1));
  const [first, second] = [new TestAnswer(true), new TestAnswer(true)];
  const order: string[] = [];
  first.on('batch', () => order.push('first'));
  second.on('batch', () => order.push('second'));
  await Promise.all([sender.send(...first.asked, pieces(169)), sender.send(...second.asked, pieces(50))]);
  t.same(order.slice(0, 6), ['first', 'second', 'first', 'second', 'first', 'second']);
  t.equal(order.length, 13);
});

test('who goes away is sent nothing more, and what was open for it is closed', async (t) => {
  const sender = new PieceSender(new Turnstile(1, 1));
  const answer = new TestAnswer(false);
  let closed = false;
  const sending = sender.send(
    ...answer.asked,
    pieces(1000, () => (closed = true)),
  );
  await once(answer, 'batch');
  answer.destroy();
  await sending;
  t.equal(answer.batches.length, 1);
  t.ok(closed);
});

test('what fails before the first byte can still be told; what fails behind it cuts the answer', async (t) => {
  const sender = new PieceSender(new Turnstile(1, 1));
  const failing = async function* (count: number): AsyncGenerator<Buffer> {
    yield* pieces(count);
    throw new Error('spoiled');
  };
  const early = new TestAnswer(true);
  await t.rejects(sender.send(...early.asked, failing(0)), { message: 'spoiled' });
  t.notOk(early.headersSent || early.destroyed);
  const late = new TestAnswer(true);
  await t.rejects(sender.send(...late.asked, failing(20)), { message: 'spoiled' });
  t.same([late.batches, late.destroyed, late.ended], [[17], true, false]);
});
