import { test } from 'tap';

import { SECOND } from '../../appliance/kernel/clock.ts';
import { RetryTimer } from './retry-timer.ts';

test('the wait follows what answers took, and is never shorter than a slow ROM needs', (t) => {
  const timer = new RetryTimer();
  t.equal(timer.wait, SECOND, 'of a client that was never heard');
  timer.answered(400);
  t.equal(timer.wait, 400 + 4 * 200, 'the first answer is half sure');
  for (let answer = 0; answer < 50; answer++) timer.answered(400);
  t.ok(timer.wait < 410, 'steady answers make it sure');
  timer.answered(1_000);
  t.ok(timer.wait > 1_000, 'and one that is late makes it doubt');
  for (let answer = 0; answer < 100; answer++) timer.answered(1);
  t.equal(timer.wait, 100);
  t.end();
});

test('each silence doubles the wait, and what was sent twice teaches nothing', (t) => {
  const timer = new RetryTimer();
  for (let answer = 0; answer < 50; answer++) timer.answered(10);
  timer.missed();
  timer.missed();
  t.equal(timer.wait, 400);
  t.ok(timer.silent);
  timer.answered(5_000);
  t.notOk(timer.silent);
  t.equal(timer.wait, 400, 'it may have been the first copy that was answered');
  timer.answered(10);
  t.equal(timer.wait, 100);
  t.end();
});

test('a negotiated timeout is the first wait, whatever answers took', (t) => {
  const timer = new RetryTimer(3 * SECOND);
  timer.answered(10);
  t.equal(timer.wait, 3 * SECOND);
  timer.missed();
  t.equal(timer.wait, 6 * SECOND);
  t.end();
});

test('a client is given up when it has been silent for 45 s, and for no fewer than six of its own timeouts', (t) => {
  const silence = (timer: RetryTimer) => {
    let seconds = 0;
    while (!timer.exhausted) {
      seconds += timer.wait / SECOND;
      timer.missed();
    }
    return seconds;
  };
  t.equal(silence(new RetryTimer()), 1 + 2 + 4 + 8 + 16 + 16);
  t.equal(silence(new RetryTimer(20 * SECOND)), 6 * 20);
  const quick = new RetryTimer();
  for (let answer = 0; answer < 50; answer++) quick.answered(1);
  t.ok(silence(quick) >= 45, 'a quick client too may be away for a while');
  t.end();
});
