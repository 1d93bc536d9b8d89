import { test } from 'tap';

import { HOUR, MINUTE, SECOND } from './clock.ts';
import type { Millis } from './clock.ts';
import { SteadyClock } from './steady-clock.ts';

const START = Date.UTC(2026, 0, 1);

test('what is done to the host’s clock moves neither the time nor what waits for it', async (t) => {
  const host = manualHost();
  const clock = new SteadyClock(host);
  host.pass(SECOND);
  t.equal(clock.now(), START + SECOND);
  for (const step of [HOUR, -2 * HOUR]) {
    host.step(step);
    t.equal(clock.now(), START + SECOND);
  }
  let woken = false;
  const end = new AbortController();
  const sleep = clock.sleepUntil(START + 30 * MINUTE, end.signal).then(
    () => (woken = true),
    () => undefined,
  );
  host.step(HOUR);
  await new Promise((resolve) => setImmediate(resolve));
  end.abort();
  await sleep;
  t.equal(woken, false);
});

for (const [name, step] of [
  ['ahead', HOUR],
  ['back', -HOUR],
] as const) {
  test(`a reference that was set an hour ${name} is followed by a tenth of what goes by, and not beyond`, (t) => {
    const host = manualHost();
    const clock = new SteadyClock(host);
    host.step(step);
    t.equal(clock.follow(host.wall()), step);
    t.equal(clock.now(), START, 'it never steps');
    host.pass(MINUTE);
    t.equal(clock.now(), START + MINUTE + (Math.sign(step) * MINUTE) / 10);
    for (let hour = 0; hour < 10; hour += 1) {
      clock.follow(host.wall());
      host.pass(HOUR);
    }
    t.equal(clock.now(), host.wall(), 'ten hours later it is there');
    host.pass(HOUR);
    t.equal(clock.now(), host.wall(), 'also without another reading');
    t.end();
  });
}

test('the time never goes back, whatever readings come', (t) => {
  const host = manualHost();
  const clock = new SteadyClock(host);
  let last = clock.now();
  for (const step of [500, -900, HOUR, -3 * HOUR, 20 * HOUR, -17 * HOUR]) {
    host.step(step);
    for (const gone of [0, 1, 7, 1_000]) {
      clock.follow(host.wall());
      host.pass(gone);
      t.ok(clock.now() >= last, `${step} ms, and ${gone} ms later`);
      last = clock.now();
    }
  }
  t.end();
});

test('a reading that is no surer than the difference changes nothing', (t) => {
  const host = manualHost();
  const clock = new SteadyClock(host);
  clock.follow(host.wall() + 40, 50);
  host.pass(HOUR);
  t.equal(clock.now(), START + HOUR);
  t.end();
});

test('a clock that is a day off is set at once', (t) => {
  const host = manualHost();
  const clock = new SteadyClock(host);
  host.step(400 * 24 * HOUR);
  clock.follow(host.wall());
  t.equal(clock.now(), host.wall());
  t.end();
});

function manualHost() {
  let wall: Millis = START;
  let monotonic: Millis = 1_000;
  return {
    wall: () => wall,
    monotonic: () => monotonic,
    /** What NTP, or somebody, does. */
    step: (by: Millis) => void (wall += by),
    pass(duration: Millis) {
      wall += duration;
      monotonic += duration;
    },
  };
}
