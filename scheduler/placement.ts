/** The shape asked for, and where. */
export interface PlacementRequest {
  readonly cores: number;
  readonly memoryMib: number;
  readonly diskGib: number;
  /** 1 when the customer-facing NIC is the provisioning NIC, 2 when it is another one. */
  readonly nics: number;
}

/** A machine that is free now, and how crowded its rack is. */
export interface Candidate {
  readonly machineId: string;
  readonly rackId: string;
  readonly cores: number;
  readonly memoryMib: number;
  /** The one disk that the machine's disk rule picks; undefined when it picks none or several. */
  readonly diskGib: number | undefined;
  readonly nics: number;
  /** Already waits inside the ramdisk: the warm path. */
  readonly ready: boolean;
  /** Servers of the same tenant in this rack, and machines of this rack that are being deployed now. */
  readonly tenantInRack: number;
  readonly newInRack: number;
}

export type Rejection = 'too-few-cores' | 'too-little-memory' | 'no-single-disk' | 'too-small-disk' | 'too-few-nics';

export interface Placement {
  /** Undefined when nothing fits; `rejected` then says why for each. */
  readonly chosen: string | undefined;
  /** Penalty by machine, lower is better. */
  readonly scores: ReadonlyMap<string, number>;
  readonly rejected: ReadonlyMap<string, Rejection>;
}

/**
 * Filter, then score. Rack concentration weighs most (blast radius), then a warm machine, then the tightest fit, so
 * that large machines stay free for large requests. Ties go to the smaller id: the same question has the same answer.
 */
export function place(request: PlacementRequest, candidates: readonly Candidate[]): Placement {
  const rejected = new Map<string, Rejection>();
  const scores = new Map<string, number>();
  for (const candidate of candidates) {
    const rejection = reject(request, candidate);
    if (rejection === undefined) scores.set(candidate.machineId, penalty(request, candidate));
    else rejected.set(candidate.machineId, rejection);
  }
  const [best] = [...scores].sort(([idA, a], [idB, b]) => a - b || (idA < idB ? -1 : 1));
  return { chosen: best?.[0], scores, rejected };
}

function reject(request: PlacementRequest, candidate: Candidate): Rejection | undefined {
  if (candidate.cores < request.cores) return 'too-few-cores';
  if (candidate.memoryMib < request.memoryMib) return 'too-little-memory';
  if (candidate.diskGib === undefined) return 'no-single-disk';
  if (candidate.diskGib < request.diskGib) return 'too-small-disk';
  if (candidate.nics < request.nics) return 'too-few-nics';
  return undefined;
}

/** Published weights: a rack mate of the same tenant outweighs warmth, warmth outweighs any waste. */
export const weights = { tenantInRack: 100, newInRack: 20, cold: 10, waste: 1 } as const;

function penalty(request: PlacementRequest, candidate: Candidate): number {
  return (
    weights.tenantInRack * candidate.tenantInRack +
    weights.newInRack * candidate.newInRack +
    weights.cold * (candidate.ready ? 0 : 1) +
    weights.waste * waste(request, candidate)
  );
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
