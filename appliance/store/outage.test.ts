import { pino } from 'pino';
import { test } from 'tap';

import { SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import { Outage } from './outage.ts';

const away = new RackstartError('store.unavailable', 'disk full', { details: { sqlite: 'SQLITE_FULL' } });

test('an outage is told when it begins, every 10 s, and when it is over, however many ask', async (t) => {
  const { lines, outage, clock } = open();
  for (let second = 0; second < 25; second += 1) {
    for (let asked = 0; asked < 100; asked += 1) outage.failed(away);
    await clock.advance(SECOND);
  }
  outage.worked();
  outage.worked();
  t.match(lines, [
    { msg: "the database can't be written", reason: 'disk full', sqlite: 'SQLITE_FULL', failures: 1 },
    { failures: 1_001 },
    { failures: 2_001 },
    { msg: 'the database can be written again', failures: 2_500, milliseconds: 25 * SECOND },
  ]);
  t.equal(lines.length, 4);
});

test('a database that comes and goes is told of as rarely', async (t) => {
  const { lines, outage, clock } = open();
  for (let second = 0; second < 30; second += 1) {
    outage.failed(away);
    outage.worked();
    await clock.advance(SECOND);
  }
  t.equal(lines.length, 6, 'three times away, three times back');
});

test('an answer that is an error is an answer', (t) => {
  const { lines, outage } = open();
  outage.failed(new RackstartError('not-found', 'no such thing'));
  outage.failed(new Error('UNIQUE constraint failed'));
  t.same(lines, []);
  t.end();
});

function open() {
  const lines: unknown[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const clock = new ManualClock();
  return { lines, clock, outage: new Outage('written', clock, log) };
}
