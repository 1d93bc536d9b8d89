import { test } from 'tap';

import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import type { PacketFaultRates } from './faults.ts';
import { Wire } from './wire.ts';

test('a cable without faults delivers each datagram once and at once', async (t) => {
  const { delivered, send, faults } = cable({});
  for (let packet = 0; packet < 100; packet++) send(packet);
  t.strictSame(
    delivered,
    Array.from({ length: 100 }, (_, packet) => packet),
  );
  t.strictSame(faults, []);
});

test('datagrams are lost, doubled and late at their rates, the same ones again', async (t) => {
  const rates = { lost: 0.1, doubled: 0.05, late: 0.2, lateMs: 400 };
  const play = async () => {
    const { clock, delivered, send, faults } = cable(rates);
    for (let packet = 0; packet < 2_000; packet++) send(packet);
    const atOnce = delivered.length;
    await clock.advance(400);
    return { delivered, atOnce, faults };
  };
  const { delivered, atOnce, faults } = await play();
  const count = (fault: string) => faults.filter((each) => each === fault).length;
  t.ok(
    Math.abs(count('lost') - 200) < 40 && Math.abs(count('doubled') - 100) < 30 && Math.abs(count('late') - 400) < 60,
  );
  t.equal(delivered.length, 2_000 - count('lost') + count('doubled'));
  t.equal(atOnce, delivered.length - count('late'), 'the late ones have come, within 400 ms');
  t.strictSame((await play()).delivered, delivered);
});

test('what is late does not come to a machine that was switched off', async (t) => {
  const { clock, delivered, send, power } = cable({ late: 1 });
  send(1);
  power.abort();
  await clock.advance(1_000);
  t.strictSame(delivered, []);
});

function cable(rates: PacketFaultRates) {
  const clock = new ManualClock();
  const faults: string[] = [];
  const delivered: number[] = [];
  const power = new AbortController();
  const wire = new Wire('sim-1/1', { seed: 'seed', rates, clock, onFault: (fault) => faults.push(fault) });
  return { clock, faults, delivered, power, send: (n: number) => wire.carry(() => delivered.push(n), power.signal) };
}
