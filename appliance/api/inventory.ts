import type { FastifyRequest } from 'fastify';
import type { InsertResult } from 'kysely';
import { Type } from 'typebox';
import type { Static } from 'typebox';

import type { EventLog } from '../events/event-log.ts';
import type { EventMap } from '../events/catalogue.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Cidr } from '../network/address-range.ts';
import { addressRange, parseCidr } from '../network/address-range.ts';
import type { SubnetRow } from '../store/schema.ts';
import type { Store, Tx } from '../store/store.ts';
import type { Api } from './typed-api.ts';
import { doneBy } from './auth.ts';
import { DiskLayoutBody, checkedLayout } from './disk-layout.ts';
import { invalid } from './unique.ts';
import { Created, Id, Name, problems, strict } from './schemas.ts';

export interface InventoryRouteDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly ids: Ids;
}

const IpAddress = Type.String({ anyOf: [{ format: 'ipv4' }, { format: 'ipv6' }] });
const Range = Type.Object({ first: IpAddress, last: IpAddress }, strict);
const PowerFeed = Type.String({
  ...{ minLength: 1, maxLength: 64, pattern: '^[!-~]+$' },
  description: 'What the rack has its power from: servers of one tenant are kept apart by it where there is a choice.',
});

/** What machines and servers are described with: places, shapes, networks. */
export function inventoryRoutes(api: Api, deps: InventoryRouteDeps): void {
  regionRoutes(api, deps);
  flavorRoutes(api, deps);
  subnetRoutes(api, deps);
}

function regionRoutes(api: Api, { store, events, ids }: InventoryRouteDeps): void {
  const tags = ['places'];
  api.post(
    '/regions',
    {
      config: { right: 'catalogue:write' },
      schema: {
        tags,
        summary: 'Add a region',
        body: Type.Object({ name: Name }, strict),
        response: { 201: Created, ...problems },
      },
    },
    async (request, reply) => {
      const id = ids.next('reg');
      const row = { id, name: request.body.name };
      await store.transaction(async (tx) => {
        const inserted = await tx
          .insertInto('regions')
          .values(row)
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirst();
        await wasAdded(tx, events, request, inserted, 'name', { kind: 'region', ...row });
      });
      return reply.code(201).send({ id });
    },
  );
  api.get(
    '/regions',
    {
      config: { right: 'catalogue:read' },
      schema: {
        tags,
        summary: 'List regions',
        response: {
          200: Type.Object({ regions: Type.Array(Type.Object({ id: Id, name: Type.String() })) }),
          ...problems,
        },
      },
    },
    async () => ({ regions: await store.read.selectFrom('regions').selectAll().orderBy('name').execute() }),
  );
  api.post(
    '/racks',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Add a rack',
        body: Type.Object({ region: Id, name: Name, powerFeed: Type.Optional(PowerFeed) }, strict),
        response: { 201: Created, ...problems },
      },
    },
    async (request, reply) => {
      const { region, name, powerFeed } = request.body;
      const id = ids.next('rck');
      await store.transaction(async (tx) => {
        await requireRegion(tx, region);
        const inserted = await tx
          .insertInto('racks')
          .values({ id, region_id: region, name, power_feed: powerFeed ?? null })
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirst();
        await wasAdded(tx, events, request, inserted, 'name', { kind: 'rack', id, name });
      });
      return reply.code(201).send({ id });
    },
  );
  api.get(
    '/racks',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'List racks',
        response: {
          200: Type.Object({
            racks: Type.Array(
              Type.Object({
                ...{ id: Id, region: Id, name: Type.String() },
                powerFeed: Type.Union([Type.String(), Type.Null()]),
              }),
            ),
          }),
          ...problems,
        },
      },
    },
    async () => {
      const rows = await store.read.selectFrom('racks').selectAll().orderBy('name').execute();
      return {
        racks: rows.map(({ id, region_id, name, power_feed }) => ({
          ...{ id, region: region_id, name },
          powerFeed: power_feed,
        })),
      };
    },
  );
}

function flavorRoutes(api: Api, { store, events, ids }: InventoryRouteDeps): void {
  const tags = ['flavors'];
  const shape = {
    name: Name,
    cores: Type.Integer({ minimum: 1, maximum: 4096 }),
    memoryMib: Type.Integer({ minimum: 1, maximum: 2 ** 30 }),
    diskGib: Type.Integer({ minimum: 1, maximum: 2 ** 30 }),
    nics: Type.Union([Type.Literal('same'), Type.Literal('separate')]),
    layout: Type.Optional(DiskLayoutBody),
  };
  api.post(
    '/flavors',
    {
      config: { right: 'catalogue:write' },
      schema: {
        tags,
        summary: 'Add a flavor',
        body: Type.Object(shape, strict),
        response: { 201: Created, ...problems },
      },
    },
    async (request, reply) => {
      const { name, cores, memoryMib, diskGib, nics } = request.body;
      const layout = request.body.layout && JSON.stringify(checkedLayout(request.body.layout));
      const id = ids.next('flv');
      await store.transaction(async (tx) => {
        const inserted = await tx
          .insertInto('flavors')
          .values({ id, name, cores, memory_mib: memoryMib, disk_gib: diskGib, nics, layout: layout ?? null })
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirst();
        await wasAdded(tx, events, request, inserted, 'name', { kind: 'flavor', id, name });
      });
      return reply.code(201).send({ id });
    },
  );
  api.get(
    '/flavors',
    {
      config: { right: 'catalogue:read' },
      schema: {
        tags,
        summary: 'List flavors',
        response: { 200: Type.Object({ flavors: Type.Array(Type.Object({ id: Id, ...shape })) }), ...problems },
      },
    },
    async () => {
      const rows = await store.read.selectFrom('flavors').selectAll().orderBy('name').execute();
      return {
        flavors: rows.map(({ memory_mib, disk_gib, layout, ...flavor }) => ({
          ...flavor,
          ...(layout === null ? {} : { layout: JSON.parse(layout) as Static<typeof DiskLayoutBody> }),
          memoryMib: memory_mib,
          diskGib: disk_gib,
        })),
      };
    },
  );
}

function subnetRoutes(api: Api, { store, events, ids }: InventoryRouteDeps): void {
  const tags = ['networks'];
  const body = Type.Object(
    {
      region: Id,
      role: Type.Union([Type.Literal('provisioning'), Type.Literal('customer'), Type.Literal('both')]),
      cidr: Type.String({ maxLength: 64 }),
      gateway: Type.Optional(IpAddress),
      dns: Type.Optional(Type.Array(IpAddress, { maxItems: 3 })),
      servers: Range,
      reservations: Type.Optional(Range),
      leases: Type.Optional(Range),
    },
    strict,
  );
  api.post(
    '/subnets',
    {
      config: { right: 'fleet:write' },
      schema: { tags, summary: 'Add a subnet', body, response: { 201: Created, ...problems } },
    },
    async (request, reply) => {
      const { region, role, gateway, dns, servers, reservations, leases } = request.body;
      const cidr = checked('/cidr', () => parseCidr(request.body.cidr));
      const row: SubnetRow = {
        id: ids.next('net'),
        region_id: region,
        role,
        family: cidr.family,
        cidr: cidr.text,
        gateway: gateway ?? null,
        dns: JSON.stringify(dns ?? []),
        server_first: servers.first,
        server_last: servers.last,
        reserved_first: reservations?.first ?? null,
        reserved_last: reservations?.last ?? null,
        lease_first: leases?.first ?? null,
        lease_last: leases?.last ?? null,
      };
      disjoint(
        {
          servers,
          reservations,
          leases,
          gateway: routed(gateway),
        },
        cidr,
      );
      await store.transaction(async (tx) => {
        await requireRegion(tx, region);
        const inserted = await tx
          .insertInto('subnets')
          .values(row)
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirst();
        await wasAdded(tx, events, request, inserted, 'cidr', { kind: 'subnet', id: row.id, name: row.cidr });
      });
      return reply.code(201).send({ id: row.id });
    },
  );
  api.get(
    '/subnets',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'List subnets',
        response: {
          200: Type.Object({
            subnets: Type.Array(
              Type.Object({ id: Id, region: Id, role: Type.String(), cidr: Type.String(), held: Type.Integer() }),
            ),
          }),
          ...problems,
        },
      },
    },
    async () => {
      const rows = await store.read
        .selectFrom('subnets')
        .leftJoin('addresses', 'addresses.subnet_id', 'subnets.id')
        .select(['subnets.id', 'subnets.region_id as region', 'subnets.role', 'subnets.cidr'])
        .select(({ fn }) => fn.count<number>('addresses.address').as('held'))
        .groupBy(['subnets.id', 'subnets.region_id', 'subnets.role', 'subnets.cidr'])
        .orderBy('subnets.cidr')
        .execute();
      return { subnets: rows };
    },
  );
}

/** Tells of what was inserted. Errors: `request.invalid` about `field` when nothing was, since its key is taken. */
async function wasAdded(
  tx: Tx,
  events: EventLog,
  request: FastifyRequest,
  { numInsertedOrUpdatedRows }: InsertResult,
  field: string,
  what: EventMap['inventory.added'],
): Promise<void> {
  if (numInsertedOrUpdatedRows !== 1n) throw invalid(`/${field}`, 'This is taken.');
  await events.append(tx, 'inventory.added', { key: what.id, ...doneBy(request), data: what });
}

async function requireRegion(tx: Tx, id: string): Promise<void> {
  const region = await tx.selectFrom('regions').select('id').where('id', '=', id).executeTakeFirst();
  if (region === undefined) throw invalid('/region', 'There is no such region.');
}

// A router may go by its link-local address (RFC 4861 §6.1.2), which is in no subnet.
function routed(gateway: string | undefined): Static<typeof Range> | undefined {
  return gateway === undefined || /^fe80:/i.test(gateway) ? undefined : { first: gateway, last: gateway };
}

/** Ranges lie in the subnet and share no address: a lease can never be a server's address. */
function disjoint(ranges: Readonly<Record<string, Static<typeof Range> | undefined>>, cidr: Cidr): void {
  const named = Object.entries(ranges).flatMap(([name, range]) => {
    if (range === undefined) return [];
    if (!cidr.contains(range.first) || !cidr.contains(range.last)) {
      throw invalid(`/${name}`, 'This is not in the subnet.');
    }
    return [{ name, ...checked(`/${name}`, () => addressRange(range.first, range.last)) }];
  });
  for (const { name, first, last } of named) {
    const taken = unusable(cidr).find((address) => first <= address && address <= last);
    if (taken !== undefined) throw invalid(`/${name}`, "The subnet's first and last address are nobody's.");
  }
  for (const [index, a] of named.entries()) {
    const overlap = named.slice(index + 1).find((b) => a.first <= b.last && b.first <= a.last);
    if (overlap !== undefined) throw invalid(`/${overlap.name}`, `This overlaps with ${a.name}.`);
  }
}

// RFC 1122 §3.2.1.3: the network's own address and its broadcast; RFC 3021: a /31 has neither.
function unusable({ family, text, prefixLength }: Cidr): bigint[] {
  if (family === 6 || prefixLength > 30) return [];
  const [network = ''] = text.split('/');
  const { first } = addressRange(network, network);
  return [first, first + (1n << BigInt(32 - prefixLength)) - 1n];
}

function checked<T>(field: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw error instanceof RackstartError ? invalid(field, error.message) : error;
  }
}
