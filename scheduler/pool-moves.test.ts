import { test } from 'tap';

import { chanceOf } from './chance.fixture.ts';
import { defaultPoolLimits, poolMoves } from './pool-moves.ts';
import type { PoolMachine } from './pool-moves.ts';

const limits = { warmingPerRack: 2, slack: 0.1 };
const still = { warm: [], drain: [], reasons: [] };

test('what is missing is warmed, in the racks that have the fewest', (t) => {
  const machines = fleet('a: ready ready available available', 'b: available available', 'c: warming available');
  t.same(poolMoves({ target: 6, keep: 6 }, machines, limits), {
    warm: ['b1', 'b2', 'c2'],
    drain: [],
    reasons: [{ kind: 'below-target', missing: 3 }],
  });
  t.end();
});

test('what is on its way counts', (t) => {
  t.same(poolMoves({ target: 2, keep: 2 }, fleet('a: ready warming available'), limits), still);
  t.end();
});

test('a rack warms no more machines at once than it can bear', (t) => {
  const machines = fleet('a: warming available available available', 'b: other available');
  t.same(poolMoves({ target: 5, keep: 5 }, machines, limits), {
    warm: ['b2', 'a2'],
    drain: [],
    reasons: [
      { kind: 'below-target', missing: 4 },
      { kind: 'rack-limit', rackId: 'a', waiting: 2 },
    ],
  });
  t.end();
});

test('where no machine is left, it says how many are missing', (t) => {
  const { warm, reasons } = poolMoves({ target: 5, keep: 5 }, fleet('a: available other', 'b: ready'), limits);
  t.same(warm, ['a1']);
  t.same(reasons, [
    { kind: 'below-target', missing: 4 },
    { kind: 'none-available', missing: 3 },
  ]);
  t.end();
});

test('machines above the target are drained where most stand, once it is worth it', (t) => {
  const machines = fleet('a: ready ready ready', 'b: ready', 'c: ready ready');
  t.same(poolMoves({ target: 3, keep: 3 }, machines, limits), {
    warm: [],
    drain: ['a1', 'a2', 'c1'],
    reasons: [{ kind: 'above-target', surplus: 3 }],
  });
  t.end();
});

test('machines that will be wanted soon stay, and one too many is no reason to switch', (t) => {
  const machines = fleet('a: ready ready ready ready');
  t.same(poolMoves({ target: 1, keep: 4 }, machines, limits), kept(3));
  t.same(poolMoves({ target: 1, keep: 3 }, machines, limits), kept(3));
  t.same(poolMoves({ target: 1, keep: 2 }, machines, limits).drain, ['a1', 'a2']);
  t.same(poolMoves({ target: 4, keep: 4 }, machines, limits), still);
  t.end();
});

test('a great pool may be above its target by a tenth', (t) => {
  const machines = fleet(`a:${' ready'.repeat(44)}`);
  t.same(poolMoves({ target: 40, keep: 40 }, machines, limits), kept(4));
  t.equal(poolMoves({ target: 39, keep: 39 }, machines, limits).drain.length, 5);
  t.end();
});

test('a target that wavers by one switches no machine twice', (t) => {
  let machines = fleet('a: available available available available available');
  const moved: string[] = [];
  for (const target of [3, 4, 3, 4, 3, 4, 3, 4]) {
    const { warm, drain } = poolMoves({ target, keep: target }, machines, defaultPoolLimits);
    moved.push(...warm, ...drain);
    machines = machines.map((machine) => (warm.includes(machine.machineId) ? { ...machine, state: 'ready' } : machine));
  }
  t.same(moved, ['a1', 'a2', 'a3', 'a4']);
  t.end();
});

test('whatever the fleet, nothing is touched but what is free or ready, and the target is not overshot', (t) => {
  const chance = chanceOf(3);
  const states = ['available', 'warming', 'ready', 'other'] as const;
  for (let round = 0; round < 300; round += 1) {
    const machines = Array.from({ length: Math.floor(60 * chance()) }, (_, index): PoolMachine => {
      return {
        machineId: `m${index}`,
        rackId: `r${Math.floor(5 * chance())}`,
        state: states[Math.floor(4 * chance())]!,
      };
    });
    const target = Math.floor(40 * chance());
    const keep = target + Math.floor(8 * chance());
    const { warm, drain } = poolMoves({ target, keep }, machines, limits);
    const at = (id: string) => machines.find(({ machineId }) => machineId === id)!;
    const pooled = machines.filter(({ state }) => state === 'ready' || state === 'warming').length;
    t.ok(warm.every((id) => at(id).state === 'available') && drain.every((id) => at(id).state === 'ready'));
    t.equal(new Set([...warm, ...drain]).size, warm.length + drain.length, 'each once');
    t.ok(warm.length === 0 || pooled + warm.length <= target);
    t.ok(drain.length === 0 || pooled - drain.length >= keep);
    for (const [rackId, members] of Map.groupBy(machines, (machine) => machine.rackId)) {
      const added = warm.filter((id) => at(id).rackId === rackId).length;
      const warming = members.filter(({ state }) => state === 'warming').length;
      t.ok(added === 0 || warming + added <= limits.warmingPerRack, 'within the limit of the rack');
    }
    t.same(poolMoves({ target, keep }, machines.toReversed(), limits), poolMoves({ target, keep }, machines, limits));
  }
  t.end();
});

function kept(surplus: number) {
  return { warm: [], drain: [], reasons: [{ kind: 'kept', surplus }] };
}

/** `a: ready other` is a rack a with the machines a1 and a2. */
function fleet(...racks: string[]): PoolMachine[] {
  return racks.flatMap((rack) => {
    const [rackId = '', states = ''] = rack.split(':');
    return states
      .trim()
      .split(' ')
      .map((state, index) => ({ machineId: `${rackId}${index + 1}`, rackId, state: state as PoolMachine['state'] }));
  });
}
