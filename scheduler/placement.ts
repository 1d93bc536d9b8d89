/** The shape asked for. */
export interface PlacementRequest {
  readonly cores: number;
  readonly memoryMib: number;
  readonly diskGib: number;
  /** 1 when the customer-facing NIC is the provisioning NIC, 2 when it is another one. */
  readonly nics: number;
}

/** A machine that is free now, and how crowded it is around it. */
export interface Candidate {
  readonly machineId: string;
  readonly rackId: string;
  readonly cores: number;
  readonly memoryMib: number;
  /** Of the root, where each rule of the layout picks the disks that it should; undefined when one picks none or too many. */
  readonly diskGib: number | undefined;
  readonly nics: number;
  /** Already waits inside the ramdisk: the warm path. */
  readonly ready: boolean;
  /** Open warnings about the machine itself. */
  readonly warnings: number;
  /** This request has failed on it. */
  readonly tried: boolean;
  /** Servers of the same tenant in this rack, and machines of this rack that were deployed lately or are being deployed. */
  readonly tenantInRack: number;
  readonly newInRack: number;
  /** Servers of the same tenant behind the same switch, and on the same power feed; 0 where nobody said which those are. */
  readonly tenantOnSwitch: number;
  readonly tenantOnFeed: number;
}

export type Filter =
  'too-few-cores' | 'too-little-memory' | 'disks-do-not-fit' | 'too-small-disk' | 'too-few-nics' | 'tried-before';

/** In this order; the first that a machine does not pass is why it was left out. */
const filters: readonly [Filter, (request: PlacementRequest, candidate: Candidate) => boolean][] = [
  ['too-few-cores', ({ cores }, candidate) => candidate.cores >= cores],
  ['too-little-memory', ({ memoryMib }, candidate) => candidate.memoryMib >= memoryMib],
  ['disks-do-not-fit', (_, { diskGib }) => diskGib !== undefined],
  ['too-small-disk', ({ diskGib }, candidate) => (candidate.diskGib ?? 0) >= diskGib],
  ['too-few-nics', ({ nics }, candidate) => candidate.nics >= nics],
  ['tried-before', (_, { tried }) => !tried],
];

export interface FilterStep {
  readonly filter: Filter;
  /** Machines that came this far and went no further. */
  readonly leftOut: readonly string[];
  /** How many are left behind it. */
  readonly passed: number;
}

/** Every filter in its order, and what it left. */
export function filterSteps({ scores, rejected }: Pick<Placement, 'scores' | 'rejected'>): FilterStep[] {
  let passed = scores.size + rejected.size;
  return filters.map(([filter]) => {
    const leftOut = [...rejected].filter(([, by]) => by === filter).map(([machineId]) => machineId);
    passed -= leftOut.length;
    return { filter, leftOut, passed };
  });
}

/**
 * What makes a machine the worse choice, and by how much. A rack mate of the same tenant outweighs all else but more of them:
 * what takes a rack away shall take one server of a tenant. Then come what racks share, and what is being deployed beside it,
 * a warning about the machine, that it is cold, and last, between 0 and 1, how much of it the order would leave unused.
 * ARCHITECTURE.md has this table too.
 */
export const weights = {
  'tenant-in-rack': 100,
  'tenant-on-switch': 40,
  'tenant-on-feed': 20,
  'new-in-rack': 20,
  warning: 15,
  cold: 10,
  waste: 1,
} as const;

export type Weight = keyof typeof weights;

/** What of each weight a machine has, times the weight; what is 0 is left out. Lower is better. */
export interface Score {
  readonly total: number;
  readonly terms: Readonly<Partial<Record<Weight, number>>>;
}

export interface Placement {
  /** Undefined when nothing fits; `rejected` then says why for each, and `emptiedBy` which filter took the last. */
  readonly chosen: string | undefined;
  readonly scores: ReadonlyMap<string, Score>;
  readonly rejected: ReadonlyMap<string, Filter>;
  /** Undefined while something fits, and when there was nothing to choose from. */
  readonly emptiedBy: Filter | undefined;
}

/**
 * Filter, then score. Ties go to the smaller id: the same question has the same answer, in whatever order the machines come.
 */
export function place(request: PlacementRequest, candidates: readonly Candidate[]): Placement {
  const rejected = new Map<string, Filter>();
  const scores = new Map<string, Score>();
  let best: Scored | undefined;
  for (const candidate of candidates) {
    const { machineId } = candidate;
    const failed = filters.find(([, passes]) => !passes(request, candidate));
    if (failed !== undefined) {
      rejected.set(machineId, failed[0]);
      continue;
    }
    const score = scoreOf(request, candidate);
    scores.set(machineId, score);
    if (best === undefined || isBetter({ machineId, score }, best)) best = { machineId, score };
  }
  return { chosen: best?.machineId, scores, rejected, emptiedBy: best === undefined ? lastOf(rejected) : undefined };
}

function lastOf(rejected: ReadonlyMap<string, Filter>): Filter | undefined {
  const taken = new Set(rejected.values());
  return filters.findLast(([name]) => taken.has(name))?.[0];
}

function scoreOf(request: PlacementRequest, candidate: Candidate): Score {
  const terms: Partial<Record<Weight, number>> = {};
  let total = 0;
  const add = (weight: Weight, amount: number) => {
    if (amount === 0) return;
    const term = weights[weight] * amount;
    terms[weight] = term;
    total += term;
  };
  add('tenant-in-rack', candidate.tenantInRack);
  add('tenant-on-switch', candidate.tenantOnSwitch);
  add('tenant-on-feed', candidate.tenantOnFeed);
  add('new-in-rack', candidate.newInRack);
  add('warning', candidate.warnings);
  add('cold', candidate.ready ? 0 : 1);
  add('waste', waste(request, candidate));
  return { total, terms };
}

// The share of the machine that the request leaves unused, averaged over its dimensions: 0 to 1.
function waste(request: PlacementRequest, candidate: Candidate): number {
  const unused = (have: number, want: number) => (have === 0 ? 0 : (have - want) / have);
  return (
    (unused(candidate.cores, request.cores) +
      unused(candidate.memoryMib, request.memoryMib) +
      unused(candidate.diskGib ?? 0, request.diskGib)) /
    3
  );
}

/** Why a machine was chosen, for people: kept with the attempt, so few lines of it. */
export interface PlacementReasons {
  readonly machineId: string;
  readonly score: Score;
  /** The best of those that were not chosen. */
  readonly others: readonly Scored[];
  /** How many kinds of machines each filter left out; machines of one kind and place are as good as each other. */
  readonly leftOut: Readonly<Partial<Record<Filter, number>>>;
}

const MOST_OTHERS = 3;

/** Undefined when nothing was chosen. */
export function reasonsOf({ chosen, scores, rejected }: Placement): PlacementReasons | undefined {
  const score = chosen === undefined ? undefined : scores.get(chosen);
  if (chosen === undefined || score === undefined) return undefined;
  const leftOut: Partial<Record<Filter, number>> = {};
  for (const filter of rejected.values()) leftOut[filter] = (leftOut[filter] ?? 0) + 1;
  return { machineId: chosen, score, others: bestOf(scores, MOST_OTHERS, chosen), leftOut };
}

/** The best so many, the best first. */
export function bestOf(scores: ReadonlyMap<string, Score>, most: number, but?: string): readonly Scored[] {
  const best: Scored[] = [];
  // One pass: of thousands the few best are wanted.
  for (const [machineId, score] of scores) {
    if (machineId === but) continue;
    const worse = best.findIndex((other) => isBetter({ machineId, score }, other));
    if (worse >= 0) best.splice(worse, 0, { machineId, score });
    else best.push({ machineId, score });
    best.length = Math.min(best.length, most);
  }
  return best;
}

export interface Scored {
  readonly machineId: string;
  readonly score: Score;
}

function isBetter(one: Scored, other: Scored): boolean {
  const more = one.score.total - other.score.total;
  return more < 0 || (more === 0 && one.machineId < other.machineId);
}
