import { test } from 'tap';

import { Batched } from './batched.ts';

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
  const { batches, work } = recorder();
  const asked: Promise<number>[] = [];
  const all = Promise.withResolvers<undefined>();
  const bring = (item: number) => {
    // As a socket does: before who waits for the turn to end.
    if (item < 5) setImmediate(bring, item + 1);
    else all.resolve(undefined);
    asked.push(work.do(item));
  };
  bring(0);
  await all.promise;
  await Promise.all(asked);
  t.same(batches, [
    [0, 1, 2, 3],
    [4, 5],
  ]);
});

test('a batch that fails fails for those in it, and the next ones are done', async (t) => {
  const { work, breaks } = recorder();
  breaks.add(2);
  const settled = await Promise.allSettled([1, 2].map((item) => work.do(item)));
  t.match(settled, [{ reason: { message: '2 broke' } }, { reason: { message: '2 broke' } }]);
  t.equal(await work.do(3), 30);
});

function recorder() {
  const batches: number[][] = [];
  const breaks = new Set<number>();
  const gate = Promise.withResolvers<undefined>();
  const work = new Batched(async (items: readonly number[]) => {
    batches.push([...items]);
    const broken = items.find((item) => breaks.has(item));
    if (broken !== undefined) throw new Error(`${broken} broke`);
    if (items[0] === 1 && items.length === 1) await gate.promise;
    return items.map((item) => item * 10);
  }, 4);
  return { batches, breaks, gate, work };
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}
