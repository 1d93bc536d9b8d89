import { test } from 'tap';

import { Batched } from './batched.ts';
import type { BatchLimits } from './batched.ts';

test('what is asked for in one turn of the event loop is done together', async (t) => {
  const { batches, work } = recorder();
  t.same(await Promise.all([1, 2, 3].map((item) => work.do(item))), [10, 20, 30]);
  t.equal(await work.do(4), 40);
  t.same(batches, [[1, 2, 3], [4]]);
});

test('what comes while a batch is worked on is the next one', async (t) => {
  const { batches, work, gate } = recorder();
  const first = work.do(1);
  await turns(3);
  const others = [2, 3].map((item) => work.do(item));
  await turns(3);
  t.same([batches, work.unanswered], [[[1]], 3]);
  gate.resolve(undefined);
  await Promise.all([first, ...others]);
  t.same(batches, [[1], [2, 3]]);
  await turns(1);
  t.equal(work.unanswered, 0);
});

test('as long as each turn brings more, it is waited for, until the batch is full', async (t) => {
  t.same(await broughtTurnByTurn(6, { most: 4, turns: 16 }), [
    [0, 1, 2, 3],
    [4, 5],
  ]);
});

test('it gathers for so many turns and no longer', async (t) => {
  t.same(await broughtTurnByTurn(6, { most: 100, turns: 2 }), [
    [0, 1, 2],
    [3, 4, 5],
  ]);
});

test('a batch that fails fails for those in it, and the next ones are done', async (t) => {
  const { work, breaks } = recorder();
  breaks.add(2);
  const settled = await Promise.allSettled([1, 2].map((item) => work.do(item)));
  t.match(settled, [{ reason: { message: '2 broke' } }, { reason: { message: '2 broke' } }]);
  t.equal(await work.do(3), 30);
});

/** The batches in which items are done that come one in each turn. */
async function broughtTurnByTurn(count: number, limits: BatchLimits): Promise<number[][]> {
  const { batches, work } = recorder(limits);
  const asked: Promise<number>[] = [];
  const all = Promise.withResolvers<undefined>();
  const bring = (item: number) => {
    // As a socket does: before who waits for the turn to end.
    if (item < count - 1) setImmediate(bring, item + 1);
    else all.resolve(undefined);
    asked.push(work.do(item));
  };
  bring(0);
  await all.promise;
  await Promise.all(asked);
  return batches;
}

function recorder(limits: BatchLimits = { most: 4, turns: 16 }) {
  const batches: number[][] = [];
  const breaks = new Set<number>();
  const gate = Promise.withResolvers<undefined>();
  const work = new Batched(async (items: readonly number[]) => {
    batches.push([...items]);
    const broken = items.find((item) => breaks.has(item));
    if (broken !== undefined) throw new Error(`${broken} broke`);
    if (items[0] === 1 && items.length === 1) await gate.promise;
    return items.map((item) => item * 10);
  }, limits);
  return { batches, breaks, gate, work };
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}
