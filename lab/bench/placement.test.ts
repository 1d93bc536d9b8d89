import { test } from 'tap';

import { place } from '../../scheduler/placement.ts';
import { anyOf, bestFit, machinesOf, ordersOf, PlacementReplay, replay } from './placement-replay.ts';

const hall = { racks: 20, perRack: 10 };
const machines = machinesOf(hall, 'test');
const orders = ordersOf(100, 5, 'test');

test('each order has a machine of its own that it fits in, whoever decides', (t) => {
  for (const policy of [bestFit, anyOf('test')]) {
    const { placed, waste } = replay(machines, orders, policy);
    t.ok(placed > 90, String(placed));
    t.ok(waste > 0 && waste < 1, String(waste));
  }
  const taken = new PlacementReplay(machines);
  taken.take(orders[0]!, machines[0]!.machineId);
  t.throws(() => taken.take(orders[1]!, machines[0]!.machineId), /is not free/);
  t.end();
});

test('best-fit fills one rack after the other, ours spreads a tenant over them', (t) => {
  const ours = replay(machines, orders, ({ request }, candidates) => place(request, candidates).chosen);
  const tight = replay(machines, orders, bestFit);
  t.ok(ours.tenantInRack < tight.tenantInRack, `${String(ours.tenantInRack)} and ${String(tight.tenantInRack)}`);
  t.ok(tight.waste <= ours.waste, 'which leaves more unused');
  t.end();
});

test('a tenant finds its own servers counted, by rack, switch and feed', (t) => {
  const counted = new PlacementReplay(machines);
  const [order] = orders;
  counted.take(order!, machines[0]!.machineId);
  const seen = (tenantId: string, machineId: string) =>
    counted.candidates({ ...order!, tenantId }).find((candidate) => candidate.machineId === machineId);
  t.match(seen(order!.tenantId, 'm-0000-01'), { tenantInRack: 1, tenantOnSwitch: 1, tenantOnFeed: 1, newInRack: 1 });
  t.match(seen(order!.tenantId, 'm-0001-00'), { tenantInRack: 0, tenantOnSwitch: 1, tenantOnFeed: 1, newInRack: 0 });
  t.match(seen(order!.tenantId, 'm-0010-00'), { tenantInRack: 0, tenantOnSwitch: 0, tenantOnFeed: 0 });
  t.match(seen('somebody', 'm-0000-01'), { tenantInRack: 0, tenantOnSwitch: 0, newInRack: 1 });
  t.end();
});
