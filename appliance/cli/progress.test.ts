import { test } from 'tap';

import { ManualClock } from '../kernel/manual-clock.ts';
import { Progress } from './progress.ts';

const MB = 1e6;

test('where nobody watches, a line every five seconds tells how far it is', async (t) => {
  const { clock, said, progress } = open({ isTTY: false });
  const show = progress.meter('sending');
  for (let second = 1; second <= 11; second += 1) {
    await clock.advance(1000);
    show(second * 10 * MB, 200 * MB);
  }
  t.same(said.join('').split('\n'), [
    '[   5.0 s] sending  25 % of 200.0 MB, 10.0 MB/s, 15.0 s left',
    '[  10.0 s] sending  50 % of 200.0 MB, 10.0 MB/s, 10.0 s left',
    '',
  ]);
});

test('where somebody watches, a bar is drawn over the one before, and is gone in the end', async (t) => {
  const { clock, said, progress } = open({ isTTY: true });
  const show = progress.meter('sending', 100 * MB);
  show(100 * MB, 200 * MB);
  await clock.advance(1000);
  show(120 * MB, 200 * MB);
  show(121 * MB, 200 * MB);
  progress.end();
  t.same(said, [
    '[   0.0 s] sending ##########..........  50 % of 200.0 MB, 0.0 MB/s',
    '\r\u001b[K',
    '[   1.0 s] sending ############........  60 % of 200.0 MB, 20.0 MB/s, 4.0 s left',
    '\r\u001b[K',
  ]);
});

test('a speed is that of the last seconds, and what was there before tells nothing of it', async (t) => {
  const { clock, said, progress } = open({ isTTY: true });
  const show = progress.meter('sending', 500 * MB);
  for (let second = 1; second <= 60; second += 1) {
    await clock.advance(1000);
    show(500 * MB + (second <= 30 ? second * 10 : 300 + (second - 30)) * MB, null);
  }
  t.equal(said.at(-1), '[1 min 00 s] sending 830.0 MB, 1.0 MB/s');
});

function open({ isTTY }: { isTTY: boolean }) {
  const said: string[] = [];
  const clock = new ManualClock();
  const progress = new Progress({ stderr: { write: (text) => said.push(text), isTTY, columns: 120 }, clock });
  return { clock, said, progress };
}
