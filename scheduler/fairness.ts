/** A tenant with requests that nothing holds up but that others are worked on. */
export interface WaitingTenant {
  readonly tenantId: string;
  /** Its requests that are worked on. */
  readonly inFlight: number;
  /** When its turn came last; undefined when it never did. */
  readonly lastTurn: number | undefined;
  /** Its oldest requests that wait, the oldest first; those beyond its limit may be left out. */
  readonly requests: readonly string[];
}

export interface FairnessLimits {
  /** How many requests of one tenant are worked on at once. */
  readonly perTenant: number;
  /** How many of all tenants. */
  readonly inAll: number;
}

/** Why a tenant's next request waits. */
export type HeldUp = 'tenant-at-limit' | 'all-at-limit';

export interface Turns {
  /** What is worked on from now on, in this order. */
  readonly chosen: readonly { readonly tenantId: string; readonly requestId: string }[];
  readonly held: ReadonlyMap<string, HeldUp>;
}

/**
 * Whose turn it is, as long as there is room: of the tenants below their limit the one with the fewest requests in flight;
 * among those, the one whose last turn is the longest ago; then the smaller id, so that the same question has the same
 * answer. Within a tenant the oldest request goes first.
 *
 * How many requests a tenant has queued plays no part: others wait behind a thousand of them no longer than behind one.
 */
export function takeTurns(
  waiting: readonly WaitingTenant[],
  { inFlight, limits }: { readonly inFlight: number; readonly limits: FairnessLimits },
): Turns {
  const chosen: Turns['chosen'][number][] = [];
  // The longest without a turn stand in front; who has one goes to the end.
  let row = waiting.toSorted(byLastTurn).map((tenant) => ({ tenant, load: tenant.inFlight, taken: 0 }));
  const isHeld = ({ load }: { load: number }) => load >= limits.perTenant;
  const hasMore = ({ tenant, taken }: (typeof row)[number]) => taken < tenant.requests.length;
  for (let room = limits.inAll - inFlight; room > 0; room -= 1) {
    const able = row.filter((one) => hasMore(one) && !isHeld(one));
    const least = Math.min(...able.map(({ load }) => load));
    const next = able.find(({ load }) => load === least);
    const requestId = next?.tenant.requests[next.taken];
    if (next === undefined || requestId === undefined) break;
    chosen.push({ tenantId: next.tenant.tenantId, requestId });
    next.taken += 1;
    next.load += 1;
    row = [...row.filter((one) => one !== next), next];
  }
  const held = row.filter(hasMore).map((one) => {
    return [one.tenant.tenantId, isHeld(one) ? 'tenant-at-limit' : 'all-at-limit'] as const;
  });
  return { chosen, held: new Map(held) };
}

function byLastTurn(a: WaitingTenant, b: WaitingTenant): number {
  const [turnA, turnB] = [a.lastTurn ?? -Infinity, b.lastTurn ?? -Infinity];
  if (turnA !== turnB) return turnA < turnB ? -1 : 1;
  return a.tenantId < b.tenantId ? -1 : 1;
}
