import { Type } from 'typebox';

import { SECOND } from '../kernel/clock.ts';
import type { PoolView } from '../pool/pool-keeper.ts';
import { movesSentence, targetSentence, warmUpSentence } from '../pool/pool-reasons.ts';
import type { Reader, Store } from '../store/store.ts';
import { Timestamp, iso, problems } from './schemas.ts';
import type { Api } from './typed-api.ts';

const Machines = (description: string) => Type.Integer({ minimum: 0, description });

const Pool = Type.Object({
  region: Type.String(),
  flavor: Type.String(),
  capacity: Machines('Machines of the region that count to this flavor: those that it suits best.'),
  available: Machines('Idle and off.'),
  warming: Machines('On their way up.'),
  ready: Machines('Waiting for an order inside the ramdisk.'),
  target: Machines('So many should be ready or on their way.'),
  keep: Machines('Up to here a ready machine is not switched off, since it will be wanted within the hour.'),
  floor: Machines('What the target never falls below.'),
  ceiling: Machines('What the target never exceeds.'),
  warmUpSeconds: Type.Number({ minimum: 0, description: 'How long a machine is taken to need to get ready.' }),
  why: Type.Array(Type.String(), { description: 'What decided, and what is done about it; the first weighs most.' }),
  at: Timestamp,
});

/** The ready pool as the answering daemon last looked at it; nothing where it keeps none. */
export function poolRoutes(api: Api, { read }: Store, pools: () => readonly PoolView[]): void {
  api.get(
    '/pools',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags: ['operations'],
        summary: 'List the ready pools: how many machines wait for orders, how many should, and why',
        response: { 200: Type.Object({ pools: Type.Array(Pool) }), ...problems },
      },
    },
    async () => {
      const named = await namedPools(read, pools());
      return {
        pools: named.map(({ regionId: _region, flavorId: _flavor, reasons, moves, warmUp, at, ...counts }) => ({
          ...counts,
          warmUpSeconds: warmUp.milliseconds / SECOND,
          why: [...reasons.map(targetSentence), warmUpSentence(warmUp), ...moves.map(movesSentence)],
          at: iso(at),
        })),
      };
    },
  );
}

/** A pool with the names that people know it by; the id of what is gone. */
export interface NamedPool extends PoolView {
  readonly region: string;
  readonly flavor: string;
}

export async function namedPools(read: Reader, pools: readonly PoolView[]): Promise<NamedPool[]> {
  if (pools.length === 0) return [];
  const regions = await read.selectFrom('regions').select(['id', 'name']).execute();
  const flavors = await read.selectFrom('flavors').select(['id', 'name']).execute();
  const names = new Map([...regions, ...flavors].map(({ id, name }) => [id, name]));
  return pools.map((pool) => {
    const { regionId, flavorId } = pool;
    return { ...pool, region: names.get(regionId) ?? regionId, flavor: names.get(flavorId) ?? flavorId };
  });
}
