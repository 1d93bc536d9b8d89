import { test } from 'tap';

import { Attendance } from './attendance.ts';
import { MINUTE, SECOND } from './clock.ts';
import { ManualClock } from './manual-clock.ts';

test('we have been there since our start, as long as each second comes in its time', async (t) => {
  const { attendance, clock, started, seconds } = attending(t, () => Promise.resolve());
  await seconds(10);
  t.equal(attendance.since, started);
  clock.jump(2 * MINUTE);
  await seconds(5);
  t.equal(attendance.since, started + 10 * SECOND + 2 * MINUTE, 'and anew since we stood still');
});

test('while the database does not answer we are not there', async (t) => {
  let away = false;
  const probe = () => (away ? Promise.reject(new Error('away')) : Promise.resolve());
  const { attendance, clock, seconds } = attending(t, probe);
  await seconds(10);
  away = true;
  await seconds(30);
  const back = clock.now();
  away = false;
  await seconds(30);
  t.ok(attendance.since >= back, 'nothing from before it came back counts');
  t.ok(attendance.since <= back + 2 * SECOND);
});

function attending(t: { teardown: (end: () => Promise<void>) => void }, probe: () => Promise<void>) {
  const clock = new ManualClock();
  const started = clock.now();
  const attendance = new Attendance(clock, probe);
  const end = new AbortController();
  const running = attendance.run(end.signal);
  t.teardown(() => {
    end.abort();
    return running;
  });
  const seconds = async (count: number) => {
    for (let second = 0; second < count; second += 1) await clock.advance(SECOND);
  };
  return { attendance, clock, started, seconds };
}
