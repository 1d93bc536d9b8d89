import { test } from 'tap';

import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { draw, triangular } from '../../appliance/kernel/seeded.ts';
import { seconds } from './delays.ts';
import { bootFaults } from './faults.ts';
import { describeMachine, describeRelays } from './fleet.ts';
import { scaledClock } from './scaled-clock.ts';

const many = Array.from({ length: 20_000 }, (_, index) => index);

test('the same seed and names draw the same number, and others another', async (t) => {
  t.equal(draw('seed', 'delay', 'sim-1', 1), draw('seed', 'delay', 'sim-1', 1));
  const others = [
    draw('other', 'delay', 'sim-1', 1),
    draw('seed', 'delay', 'sim-1', 2),
    draw('seed', 'delay', 'sim-11'),
  ];
  t.equal(new Set([draw('seed', 'delay', 'sim-1', 1), ...others]).size, 4);
});

test('what is drawn is spread evenly from 0 to 1', async (t) => {
  const tenths = Map.groupBy(many, (index) => Math.floor(10 * draw('seed', index)));
  t.strictSame([...tenths.keys()].sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  for (const [tenth, { length }] of tenths) t.ok(length > 1_850 && length < 2_150, `tenth ${tenth} has ${length}`);
});

test('a triangular delay stays between its ends, and its mean is theirs and the most frequent one', async (t) => {
  const span = seconds(8, 9, 20);
  t.equal(triangular(span, 0), 8_000);
  t.equal(triangular(span, 1), 20_000);
  t.equal(triangular(span, (9 - 8) / (20 - 8)), 9_000, 'as much of it lies below the mode as the triangle says');
  const mean = many.reduce((sum, index) => sum + triangular(span, draw('mean', index)), 0) / many.length;
  t.ok(Math.abs(mean - 37_000 / 3) < 50, `the mean is ${mean}`);
  t.equal(triangular(seconds(15, 15, 15), 0.7), 15_000);
});

test('a fleet, and each of its boots, follows from its seed', async (t) => {
  const relays = describeRelays(2);
  t.strictSame(describeMachine('a', 300, relays), describeMachine('a', 300, relays));
  t.not(describeMachine('a', 300, relays).uuid, describeMachine('b', 300, relays).uuid);
  const fleet = many.slice(0, 10_000).map((index) => describeMachine('a', index + 1, relays));
  for (const key of ['name', 'mac', 'uuid'] as const)
    t.equal(new Set(fleet.map((each) => each[key])).size, 10_000, key);
  t.equal(new Set(fleet.map(({ bmc }) => bmc.address)).size, 10_000);
  t.strictSame(
    fleet.slice(0, 4).map(({ relay }) => relay?.address),
    ['10.80.1.1', '10.80.2.1', undefined, '10.80.1.1'],
  );
});

test('faults come at their rates, the same again, and not at all where there is none', async (t) => {
  const rates = { diskWrite: 0.023, hang: { image: 0.1 }, powerOff: { post: 0.05 }, falseClaim: { uuid: 0.01 } };
  const boots = many.map((index) => bootFaults('seed', rates, `sim-${index}`, 1));
  const share = (happens: (boot: (typeof boots)[number]) => boolean) => boots.filter(happens).length / boots.length;
  t.ok(Math.abs(share(({ diskWrite }) => diskWrite) - 0.023) < 0.004);
  t.ok(Math.abs(share((boot) => boot.at('image') === 'hang') - 0.1) < 0.01);
  t.ok(Math.abs(share((boot) => boot.at('post') === 'power-off') - 0.05) < 0.01);
  t.ok(Math.abs(share(({ falseClaim }) => falseClaim === 'uuid') - 0.01) < 0.003);
  t.equal(
    share((boot) => boot.at('claim') !== undefined),
    0,
  );
  const again = many.map((index) => bootFaults('seed', rates, `sim-${index}`, 1).diskWrite);
  t.strictSame(
    boots.map(({ diskWrite }) => diskWrite),
    again,
  );
  const none = bootFaults('seed', {}, 'sim-1', 1);
  t.match(none, { diskWrite: false, falseClaim: undefined });
});

test('on a scaled clock a wait is over when its share of real time is', async (t) => {
  const real = new ManualClock(1_000_000);
  const fast = scaledClock(real, 20);
  const woken: number[] = [];
  void fast.sleepUntil(fast.now() + 40_000, new AbortController().signal).then(() => woken.push(real.now()));
  await real.advance(1_999);
  t.strictSame(woken, []);
  await real.advance(1);
  t.strictSame(woken, [1_002_000]);
  t.equal(fast.now(), 1_040_000);
});
