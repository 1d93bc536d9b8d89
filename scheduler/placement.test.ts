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

test('a machine whose disk rule picks none or several is rejected for that', async (t) => {
  const placement = place(request, [candidate('unclear', { diskGib: undefined })]);
  t.equal(placement.rejected.get('unclear'), 'no-single-disk');
});

test('whatever is asked of whatever fleet: what is chosen fits, scores best, and nobody is forgotten', async (t) => {
  const random = seeded(7);
  const upTo = (most: number) => Math.floor(random() * (most + 1));
  const broken: string[] = [];
  for (let round = 0; round < 500; round += 1) {
    const must = (holds: boolean, what: string) => {
      if (!holds) broken.push(`round ${round}: ${what}`);
    };
    const fleet = Array.from({ length: upTo(12) }, (_, index) =>
      candidate(`m${index}`, {
        cores: upTo(16),
        memoryMib: upTo(32_768),
        diskGib: upTo(5) === 0 ? undefined : upTo(400),
        nics: upTo(3),
        ready: upTo(1) === 1,
        tenantInRack: upTo(3),
        newInRack: upTo(3),
      }),
    );
    const asked = { cores: upTo(12), memoryMib: upTo(16_384), diskGib: upTo(200), nics: 1 + upTo(1) };
    const { chosen, scores, rejected } = place(asked, fleet);
    must(scores.size + rejected.size === fleet.length, 'each is scored or rejected');
    must((chosen === undefined) === (scores.size === 0), 'something is chosen whenever something fits');
    must(place(asked, fleet.toReversed()).chosen === chosen, 'the same in whatever order they come');
    must(
      [...scores.values()].every((score) => Number.isFinite(score) && score >= 0),
      'scores are numbers',
    );
    const machine = fleet.find(({ machineId }) => machineId === chosen);
    if (machine === undefined) continue;
    const { cores, memoryMib, diskGib = -1, nics } = machine;
    must(cores >= asked.cores && memoryMib >= asked.memoryMib, 'it fits');
    must(diskGib >= asked.diskGib && nics >= asked.nics, 'it fits');
    must(scores.get(machine.machineId) === Math.min(...scores.values()), 'nothing scores better');
  }
  t.same(broken, []);
});

// Park and Miller's generator: the same fleets in every run.
function seeded(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
}
