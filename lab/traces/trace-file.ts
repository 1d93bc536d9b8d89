import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { traceDays } from './demand.ts';
import type { Demand } from './demand.ts';

const DAY_S = 86_400;

export function tracePath(name: string): string {
  return join(import.meta.dirname, `${name}.trace`);
}

export function readTrace(name: string): Demand {
  return parseTrace(readFileSync(tracePath(name), 'utf8'));
}

/** Three lines that tell what it is, then a line a day: the seconds of that day at which a machine was ordered. */
export function formatTrace({ name, about, capacity, orders }: Demand): string {
  const days = Map.groupBy(orders, (at) => Math.floor(at / DAY_S));
  const lines = Array.from({ length: traceDays }, (_, day) => (days.get(day) ?? []).map((at) => at % DAY_S).join(' '));
  return [`name ${name}`, `about ${about}`, `capacity ${capacity}`, ...lines, ''].join('\n');
}

export function parseTrace(text: string): Demand {
  const [name = '', about = '', capacity = '', ...days] = text.trimEnd().split('\n');
  const value = (line: string) => line.slice(line.indexOf(' ') + 1);
  const orders = days.flatMap((line, day) =>
    line === '' ? [] : line.split(' ').map((at) => day * DAY_S + Number(at)),
  );
  return { name: value(name), about: value(about), capacity: Number(value(capacity)), orders };
}
