import { readFileSync } from 'node:fs';
import { test } from 'tap';

import { makeDemands } from './demand.ts';
import { formatTrace, parseTrace, readTrace, tracePath } from './trace-file.ts';

const demands = makeDemands();

test('the committed traces are those that their generator makes', (t) => {
  for (const demand of demands) {
    t.ok(readFileSync(tracePath(demand.name), 'utf8') === formatTrace(demand), `${demand.name}.trace`);
  }
  t.end();
});

test('a trace reads back as it was written, days without an order too', (t) => {
  for (const demand of demands) t.strictSame(readTrace(demand.name), demand);
  const sparse = { name: 'sparse', about: 'two orders', capacity: 3, orders: [5, 3 * 86_400 + 7] };
  t.strictSame(parseTrace(formatTrace(sparse)), sparse);
  t.end();
});

test('each trace has the shape it is named for', (t) => {
  const [seasonal, bursty, growing] = demands.map(({ orders }) => orders);
  const hours = (orders: number[], from: number, to: number) =>
    orders.filter((at) => (at % 86_400) / 3_600 >= from && (at % 86_400) / 3_600 < to).length;
  const days = (orders: number[], from: number, to: number) =>
    orders.filter((at) => at / 86_400 >= from && at / 86_400 < to).length;
  t.ok(hours([...seasonal!], 12, 16) > 3 * hours([...seasonal!], 0, 4), 'more orders by day than by night');
  const crowded = (orders: readonly number[]) =>
    orders.filter((at, index) => (orders[index + 9] ?? Infinity) - at < 300).length / orders.length;
  t.ok(crowded(bursty!) > 0.3 && crowded(seasonal!) < 0.01, 'many orders within minutes');
  t.ok(days([...growing!], 76, 90) > 4 * days([...growing!], 0, 14), 'more orders at the end than at the beginning');
  t.end();
});
