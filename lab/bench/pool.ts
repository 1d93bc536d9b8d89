import { countOrders } from '../../scheduler/forecast/demand-series.ts';
import { chooseMethod } from '../../scheduler/forecast/forecast.ts';
import { traceBegin, traceDays } from '../traces/demand.ts';
import type { Demand } from '../traces/demand.ts';
import { readTrace } from '../traces/trace-file.ts';
import { fixed, forecasts, foreseeing, lawful } from './pool-policies.ts';
import { replay, WARM_UP_S } from './pool-replay.ts';
import type { PoolPolicyAt, Replayed } from './pool-replay.ts';
import { lessIsBetter, median } from './report.ts';
import type { Bench, Row } from './report.ts';

/**
 * The pool's target beside pools of a fixed size, on three traces of 90 days. What is compared is a curve: how many machine-hours
 * stand by for which share of orders that find a machine ready.
 */
export const bench: Bench = {
  name: 'pool',
  about:
    'how many orders find a warm machine, for how many idle machine-hours: forecast beside static pools and an oracle',
  definitions: [
    'hits: orders that found a machine ready. Idle: machine-hours powered for nobody, ready or warming (8 to 12 min).',
    'Days 15 to 90 count; the forecast began on day 1 with nothing, knows complete hours alone, and has floor and ceiling off.',
    'static 20 %: a fifth of the fleet, always. Hindsight: the static pool that hits as often, of the size found afterwards.',
    'true means: our target, told the hourly means and the variance that the trace was drawn with instead of a forecast.',
    'oracle: knows every order and has its machine up in that moment, so that warm-ups alone are idle; told, not judged (aim 0).',
  ],
  run: async (say) => ['seasonal', 'bursty', 'growing'].flatMap((name) => compared(readTrace(name), say)),
};

const LEVELS = [0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999, 0.99995, 0.99999];
const SHOWN = [0.9, 0.99, 0.999];
const COLD_DAYS = 14;
const DAY_S = 86_400;

interface Point extends Replayed {
  readonly title: string;
}

function compared(demand: Demand, say: (line: string) => void): Row[] {
  const { name, capacity } = demand;
  say(`${name}: ${demand.about}; ${demand.orders.length} orders of ${capacity} machines`);
  const point = (title: string, policy: PoolPolicyAt): Point => {
    const span = { countFrom: COLD_DAYS * DAY_S, until: traceDays * DAY_S };
    return { title, ...replay(demand, policy, span) };
  };
  const hourly = forecasts(demand);
  const ours = LEVELS.map((level) => point(`level ${level}`, foreseeing(hourly, capacity, level)));
  const means = LEVELS.map((level) => point(`true means, ${level}`, foreseeing(lawful(name), capacity, level)));
  const fifth = Math.ceil(capacity / 5);
  const statics = Array.from({ length: fifth + 10 }, (_, size) => point(`static ${size}`, fixed(size)));
  const best = oracle(statics[0]!);
  const round = statics.filter((_, size) => [1, 2, 3, 5, 8, 12, 20, 30, 40, 50, fifth].includes(size));
  for (const one of [best, ...ours, ...means, ...round]) say(told(one));
  const cold = replay(demand, foreseeing(hourly, capacity, 0.99), { countFrom: 0, until: COLD_DAYS * DAY_S });
  say(told({ title: 'level 0.99, cold', ...cold }));

  const usual = statics[fifth]!;
  const alike = ours.find(({ hits }) => hits >= usual.hits);
  const idle = { unit: 'idle machine-hours' };
  return [
    lessIsBetter({
      case: `${name}: as many hits as the static 20 % (${share(usual)}), ${alike?.title ?? 'at no level'}`,
      ...idle,
      ours: alike?.idleHours ?? Infinity,
      peer: usual.idleHours,
      peerName: `static ${fifth}`,
      aim: 1.25,
    }),
    ...SHOWN.flatMap((level) => {
      const one = ours[LEVELS.indexOf(level)]!;
      const title = `${name}: level ${level} (${share(one)})`;
      const beside = (peerName: string, peer: number, aim: number) =>
        lessIsBetter({ case: title, ...idle, ours: one.idleHours, peer, peerName, aim });
      return [
        beside('hindsight', idleAt(statics, one), 1),
        beside('true means', idleAt(means, one), 0.9),
        beside('oracle', best.idleHours, 0),
      ];
    }),
    timeToChoose(demand),
  ];
}

/** What the points of a curve, in rising order, would idle for as many hits: straight between two of them. */
function idleAt(curve: readonly Point[], { hits }: Point): number {
  const above = curve.findIndex((point) => point.hits >= hits);
  const [low, high] = [curve[above - 1], curve[above]];
  if (high === undefined) return NaN;
  if (low === undefined) return high.idleHours;
  return low.idleHours + ((hits - low.hits) / (high.hits - low.hits)) * (high.idleHours - low.idleHours);
}

function oracle({ orders }: Replayed): Point {
  const idleHours = (orders * (WARM_UP_S.least + WARM_UP_S.most)) / 2 / 3_600;
  return { title: 'oracle', orders, hits: orders, idleHours, powerOns: orders };
}

function timeToChoose({ name, orders }: Demand): Row {
  const times = orders.map((at) => traceBegin + at * 1_000);
  const span = { from: traceBegin, until: traceBegin + traceDays * DAY_S * 1_000, bucketMs: 3_600_000 };
  const series = countOrders(times, span);
  const runs = Array.from({ length: 9 }, () => {
    const began = process.cpuUsage();
    chooseMethod(series, WARM_UP_S.most * 1_000);
    return process.cpuUsage(began).user / 1_000;
  });
  const limit = { peer: 200, peerName: 'limit', aim: 1 };
  return lessIsBetter({
    case: `${name}: choosing a method on 90 days`,
    unit: 'ms of CPU',
    ours: median(runs),
    ...limit,
  });
}

function told(point: Point): string {
  const { title, idleHours, powerOns } = point;
  return `  ${title.padEnd(20)} ${share(point).padStart(9)} hits, ${idleHours.toFixed(0)} idle h, ${powerOns} power-ons`;
}

function share({ hits, orders }: Replayed): string {
  return `${((100 * hits) / orders).toFixed(2)} %`;
}
