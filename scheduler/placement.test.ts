import { test } from 'tap';

import type { Candidate } from './placement.ts';
import { bestOf, filterSteps, place, reasonsOf, weights } from './placement.ts';

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
    warnings: 0,
    tried: false,
    tenantInRack: 0,
    newInRack: 0,
    tenantOnSwitch: 0,
    tenantOnFeed: 0,
    ...traits,
  };
}

test('every filter tells in its turn how many it left, and whom it left out', (t) => {
  const placement = place(request, [
    candidate('fits'),
    candidate('tried', { tried: true }),
    candidate('both', { cores: 4, memoryMib: 1 }),
    candidate('cores', { cores: 4 }),
    candidate('better', { ready: true }),
  ]);
  t.same(filterSteps(placement), [
    { filter: 'too-few-cores', leftOut: ['both', 'cores'], passed: 3 },
    ...(['too-little-memory', 'disks-do-not-fit', 'too-small-disk', 'too-few-nics'] as const).map((filter) => {
      return { filter, leftOut: [], passed: 3 };
    }),
    { filter: 'tried-before', leftOut: ['tried'], passed: 2 },
  ]);
  t.match(bestOf(placement.scores, 5), [{ machineId: 'better' }, { machineId: 'fits' }]);
  t.match(bestOf(placement.scores, 1), [{ machineId: 'better' }]);
  t.end();
});

test('each machine that does not fit is rejected with its reason', async (t) => {
  const placement = place({ ...request, nics: 2 }, [
    candidate('cores', { cores: 4, nics: 2 }),
    candidate('memory', { memoryMib: 8_192, nics: 2 }),
    candidate('disk', { diskGib: 100, nics: 2 }),
    candidate('nics'),
    candidate('tried', { nics: 2, tried: true }),
  ]);
  t.equal(placement.chosen, undefined);
  t.equal(placement.emptiedBy, 'tried-before', 'the last filter that took one left nothing');
  t.same(
    [...placement.rejected],
    [
      ['cores', 'too-few-cores'],
      ['memory', 'too-little-memory'],
      ['disk', 'too-small-disk'],
      ['nics', 'too-few-nics'],
      ['tried', 'tried-before'],
    ],
  );
});

test('no filter is blamed for an empty answer where nothing was free, nor where something fits', async (t) => {
  t.equal(place(request, []).emptiedBy, undefined);
  t.equal(place(request, [candidate('small', { cores: 1 }), candidate('fits')]).emptiedBy, undefined);
});

// Pairs of what decides between two machines that are alike but for it: the first is chosen, though its id is the greater.
const preferences: readonly [title: string, better: Partial<Candidate>, worse: Partial<Candidate>][] = [
  ['a switch without servers of the tenant', {}, { tenantOnSwitch: 1 }],
  ['a power feed without servers of the tenant', {}, { tenantOnFeed: 1 }],
  ['a rack where nothing is being deployed', {}, { newInRack: 1 }],
  ['a machine that nobody warns of, cold as it is,', {}, { warnings: 1, ready: true }],
  ['a new rack beside two others on its feed', { tenantOnFeed: 2 }, { tenantInRack: 1 }],
  ['a warm machine on a feed of its own', { ready: true }, { tenantOnFeed: 1, ready: true }],
];

for (const [title, better, worse] of preferences) {
  test(`${title} is preferred`, async (t) => {
    t.equal(place(request, [candidate('a', worse), candidate('b', better)]).chosen, 'b');
    t.equal(place(request, [candidate('a', better), candidate('b', worse)]).chosen, 'a');
  });
}

test('a choice is kept with what made it, the best of the others, and how many were left out by what', async (t) => {
  const warned = { warnings: 2, cores: 16 };
  const placement = place(request, [
    candidate('e', { tenantInRack: 4 }),
    candidate('d', { tenantInRack: 3 }),
    candidate('c', { tenantInRack: 2 }),
    candidate('b', warned),
    candidate('a', { ready: true }),
    candidate('small', { cores: 1 }),
    candidate('tiny', { cores: 1 }),
  ]);
  const reasons = reasonsOf(placement);
  t.match(reasons, { machineId: 'a', score: { total: 0, terms: {} }, leftOut: { 'too-few-cores': 2 } });
  t.same(
    reasons?.others.map(({ machineId }) => machineId),
    ['b', 'c', 'd'],
  );
  const waste = weights.waste * (8 / 16 / 3);
  const terms = { warning: 2 * weights.warning, cold: weights.cold, waste };
  t.same(reasons?.others[0]?.score, { terms, total: 2 * weights.warning + weights.cold + waste });
  t.equal(reasonsOf(place(request, [])), undefined);
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
  t.equal(placement.rejected.get('unclear'), 'disks-do-not-fit');
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
        warnings: upTo(1),
        tried: upTo(5) === 0,
        tenantOnSwitch: upTo(3),
        tenantOnFeed: upTo(3),
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
      [...scores.values()].every(({ total }) => Number.isFinite(total) && total >= 0),
      'scores are numbers',
    );
    const machine = fleet.find(({ machineId }) => machineId === chosen);
    if (machine === undefined) continue;
    const { cores, memoryMib, diskGib = -1, nics } = machine;
    must(cores >= asked.cores && memoryMib >= asked.memoryMib, 'it fits');
    must(diskGib >= asked.diskGib && nics >= asked.nics, 'it fits');
    const totals = [...scores.values()].map(({ total }) => total);
    must(scores.get(machine.machineId)?.total === Math.min(...totals), 'nothing scores better');
  }
  t.same(broken, []);
});

// Park and Miller's generator: the same fleets in every run.
function seeded(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
}
