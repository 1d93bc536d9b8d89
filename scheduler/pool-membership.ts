import type { Candidate, PlacementRequest } from './placement.ts';
import { place } from './placement.ts';

/** What machines of one kind have in common beside their disks. */
export type Shape = Pick<Candidate, 'cores' | 'memoryMib' | 'nics'>;

/** A flavor as one machine could serve it. */
export interface Serving {
  readonly flavorId: string;
  readonly request: PlacementRequest;
  /** Of the machine's root under this flavor's layout. */
  readonly diskGib: Candidate['diskGib'];
}

/**
 * The flavor whose pool a machine counts to: of those that it can serve the one that leaves the least of it unused, and of equal
 * ones the smaller id. Undefined when it can serve none. A machine is in one pool, so that no two wait for it.
 */
export function flavorOfMachine(shape: Shape, flavors: readonly Serving[]): string | undefined {
  const penalties = flavors.flatMap(({ flavorId, request, diskGib }) => {
    const score = place(request, [{ ...alone, ...shape, diskGib }]).scores.get(alone.machineId);
    return score === undefined ? [] : [{ flavorId, penalty: score.total }];
  });
  const [best] = penalties.sort((a, b) => a.penalty - b.penalty || (a.flavorId < b.flavorId ? -1 : 1));
  return best?.flavorId;
}

/** A machine that nothing speaks for or against but its shape. */
const alone = {
  ...{ machineId: 'alone', rackId: 'alone', ready: true, warnings: 0, tried: false },
  ...{ tenantInRack: 0, newInRack: 0, tenantOnSwitch: 0, tenantOnFeed: 0 },
};
