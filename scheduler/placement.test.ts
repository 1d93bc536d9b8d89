import { test } from 'tap';

import type { Candidate } from './placement.ts';
import { place } from './placement.ts';

const request = { cores: 8, memoryMib: 16_384, diskGib: 200, nics: 1 };

function candidate(machineId: string, traits: Partial<Candidate> = {}): Candidate {
  return {
    machineId,
    rackId: 'r1',
    cores: 8,
    memoryMib: 16_384,
    diskGib: 200,
    nics: 1,
    ready: false,
    tenantInRack: 0,
    newInRack: 0,
    ...traits,
  };
}

test('each machine that does not fit is rejected with its reason', async (t) => {
  const placement = place({ ...request, nics: 2 }, [
    candidate('cores', { cores: 4, nics: 2 }),
    candidate('memory', { memoryMib: 8_192, nics: 2 }),
    candidate('disk', { diskGib: 100, nics: 2 }),
    candidate('nics'),
  ]);
  t.equal(placement.chosen, undefined);
  t.same(
    [...placement.rejected],
    [
      ['cores', 'too-few-cores'],
      ['memory', 'too-little-memory'],
      ['disk', 'too-small-disk'],
      ['nics', 'too-few-nics'],
    ],
  );
});

test('the tightest fit wins, so that large machines stay free', async (t) => {
  const placement = place(request, [candidate('large', { cores: 64, memoryMib: 262_144 }), candidate('tight')]);
  t.equal(placement.chosen, 'tight');
});

test("a rack without the tenant's servers wins over a warm machine beside them", async (t) => {
  const placement = place(request, [
    candidate('beside', { ready: true, tenantInRack: 1 }),
    candidate('apart', { rackId: 'r2', cores: 64 }),
  ]);
  t.equal(placement.chosen, 'apart');
});

test('among equal racks a warm machine wins over a tighter cold one', async (t) => {
  const placement = place(request, [candidate('cold'), candidate('warm', { ready: true, cores: 64 })]);
  t.equal(placement.chosen, 'warm');
});

test('equal machines are chosen by id, so that the answer repeats', async (t) => {
  t.equal(place(request, [candidate('b'), candidate('a')]).chosen, 'a');
  t.equal(place(request, [candidate('a'), candidate('b')]).chosen, 'a');
});
