import { Type } from 'typebox';

import { bestOf, filterSteps } from '../../scheduler/placement.ts';
import type { Clock } from '../kernel/clock.ts';
import { freeMachines } from '../machines/candidates.ts';
import { Fleet } from '../providers/bare-metal/fleet.ts';
import type { MachineRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import type { Api } from './typed-api.ts';
import { Id, Name, problems, strict } from './schemas.ts';
import { invalid } from './unique.ts';

const Weighed = Type.Object({
  machine: Type.String(),
  total: Type.Number(),
  terms: Type.Record(Type.String(), Type.Number(), { description: 'What speaks against it, by weight.' }),
});

const Placement = Type.Object({
  region: Type.String(),
  flavor: Type.String(),
  free: Type.Integer({ description: 'Machines that could be claimed now: the filters look at no others.' }),
  notFree: Type.Record(Type.String(), Type.Integer(), {
    description: 'All others of the region by state; a free one whose disk is not proven clean is `dirty`.',
  }),
  filters: Type.Array(
    Type.Object({
      filter: Type.String(),
      passed: Type.Integer({ description: 'How many are left behind it.' }),
      leftOut: Type.Integer(),
      examples: Type.Array(Type.String(), { description: 'Some of those that it left out, by name.' }),
    }),
    { description: 'In their order.' },
  ),
  emptiedBy: Type.Union([Type.String(), Type.Null()], { description: 'The filter that left none.' }),
  chosen: Type.Union([Type.String(), Type.Null()], { description: 'The machine that would be taken.' }),
  best: Type.Array(Weighed, { description: 'The first few of those that fit; the least is taken.' }),
});

const MOST_EXAMPLES = 5;
const MOST_BEST = 5;

/** The dry run of a placement: the function that chooses for orders is asked, on what is free now, and nothing is claimed. */
export function placementRoute(api: Api, { read, clock }: { readonly read: Reader; readonly clock: Clock }): void {
  api.get(
    '/placement',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags: ['operations'],
        summary: 'Which machine an order would be given now, and why not the others; nothing is done',
        querystring: Type.Object(
          {
            region: Name,
            flavor: Name,
            tenant: Type.Optional(Id),
          },
          strict,
        ),
        response: { 200: Placement, ...problems },
      },
    },
    async ({ query }) => {
      const region = await read.selectFrom('regions').selectAll().where('name', '=', query.region).executeTakeFirst();
      if (region === undefined) throw invalid('/querystring/region', 'There is no such region.');
      const flavor = await read.selectFrom('flavors').selectAll().where('name', '=', query.flavor).executeTakeFirst();
      if (flavor === undefined) throw invalid('/querystring/flavor', 'There is no such flavor.');
      const { tenant: tenantId } = query;
      if (tenantId !== undefined && !(await isTenant(read, tenantId))) {
        throw invalid('/querystring/tenant', 'There is no such tenant.');
      }
      const free = await freeMachines(read, region.id, clock.now());
      const placement = new Fleet(free, new Map()).weigh({ flavor, tenantId: tenantId ?? '' });
      const machines = await machinesOf(read, region.id);
      const isFree = new Set(free.machines.map(({ machineId }) => machineId));
      const others = machines.filter(({ id }) => !isFree.has(id)).map(whyNotFree);
      const names = new Map(machines.map(({ id, name }) => [id, name]));
      const nameOf = (machineId: string) => names.get(machineId) ?? machineId;
      return {
        region: region.name,
        flavor: flavor.name,
        free: isFree.size,
        notFree: Object.fromEntries([...Map.groupBy(others, (why) => why)].map(([why, each]) => [why, each.length])),
        filters: filterSteps(placement).map(({ filter, passed, leftOut }) => {
          const named = leftOut.map(nameOf).sort();
          return { filter, passed, leftOut: named.length, examples: named.slice(0, MOST_EXAMPLES) };
        }),
        emptiedBy: placement.emptiedBy ?? null,
        chosen: placement.chosen === undefined ? null : nameOf(placement.chosen),
        best: bestOf(placement.scores, MOST_BEST).map(({ machineId, score: { total, terms } }) => {
          return { machine: nameOf(machineId), total, terms: { ...terms } };
        }),
      };
    },
  );
}

type Machine = Pick<MachineRow, 'id' | 'name' | 'state' | 'disk_state'>;

function machinesOf(read: Reader, regionId: string): Promise<Machine[]> {
  return read
    .selectFrom('machines')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .select(['machines.id', 'machines.name', 'machines.state', 'machines.disk_state'])
    .where('racks.region_id', '=', regionId)
    .execute();
}

/** One that became free since the list was read is told as what it is now. */
function whyNotFree({ state, disk_state }: Machine): string {
  return disk_state !== 'clean' && ['available', 'ready'].includes(state) ? 'dirty' : state;
}

async function isTenant(read: Reader, id: string): Promise<boolean> {
  return (await read.selectFrom('tenants').select('id').where('id', '=', id).executeTakeFirst()) !== undefined;
}
