import { sql } from 'kysely';
import { Type } from 'typebox';

import type { Clock, Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { LeaseRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import { Id, IdParams, iso, maybeIso, MaybeTimestamp, problems, strict, Timestamp } from './schemas.ts';
import type { Api } from './typed-api.ts';

export interface LeaseRouteDeps {
  readonly read: Reader;
  readonly clock: Clock;
}

const MaybeText = Type.Union([Type.String(), Type.Null()]);

const Lease = Type.Object({
  address: Type.String(),
  state: Type.Union(
    [Type.Literal('reserved'), Type.Literal('bound'), Type.Literal('declined'), Type.Literal('expired')],
    {
      description:
        "reserved: a known machine's for good. bound: a stranger's until it expires. declined: rests, since its client " +
        'found it in use. expired: free, and kept for its client to find again.',
    },
  ),
  mac: Type.String(),
  machine: Type.Union([Type.Object({ id: Id, name: Type.String() }), Type.Null()]),
  hostname: MaybeText,
  clientId: Type.Union([Type.String(), Type.Null()], { description: 'DHCP option 61, hex.' }),
  expiresAt: MaybeTimestamp,
});

const ForeignServer = Type.Object({
  address: Type.String({ description: 'Its server identifier.' }),
  mac: Type.String({ description: 'Of the frame that its answer came in.' }),
  firstSeenAt: Timestamp,
  lastSeenAt: Timestamp,
  lastClient: Type.String({ description: 'MAC of the client that it answered last.' }),
});

const tags = ['networks'];

/** Who has which address of a network, and who else gives them out there; an operator's alone. */
export function leaseRoutes(api: Api, { read, clock }: LeaseRouteDeps): void {
  api.get(
    '/subnets/:id/leases',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: "List a subnet's DHCP reservations and leases",
        params: IdParams,
        querystring: Type.Object(
          {
            after: Type.Optional(Type.String({ maxLength: 45, description: '`next` of the page before.' })),
            limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
          },
          strict,
        ),
        response: { 200: Type.Object({ leases: Type.Array(Lease), next: MaybeText }), ...problems },
      },
    },
    async (request) => {
      await requireSubnet(read, request.params.id);
      const { after = '', limit } = request.query;
      // One more than asked for tells whether there is another page.
      const rows = await heldAddresses(read, request.params.id, after, limit + 1);
      const page = rows.slice(0, limit);
      const next = rows.length > limit ? (page.at(-1)?.address ?? null) : null;
      const now = clock.now();
      return { leases: page.map((row) => present(row, now)), next };
    },
  );
  api.get(
    '/subnets/:id/foreign-dhcp-servers',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'List DHCP servers that are not ours and answered clients on a subnet',
        params: IdParams,
        response: { 200: Type.Object({ servers: Type.Array(ForeignServer) }), ...problems },
      },
    },
    async (request) => {
      await requireSubnet(read, request.params.id);
      const rows = await read
        .selectFrom('foreign_dhcp_servers')
        .selectAll()
        .where('subnet_id', '=', request.params.id)
        .orderBy('last_seen_at', 'desc')
        .orderBy('mac')
        .orderBy('address')
        .limit(MOST_SERVERS)
        .execute();
      return {
        servers: rows.map(({ address, mac, first_seen_at, last_seen_at, last_client }) => ({
          address,
          mac,
          firstSeenAt: iso(first_seen_at),
          lastSeenAt: iso(last_seen_at),
          lastClient: last_client,
        })),
      };
    },
  );
}

// A spoofer may play any number of servers: the latest tell enough.
const MOST_SERVERS = 100;

interface Held {
  readonly address: string;
  readonly mac: string;
  readonly state: LeaseRow['state'] | null;
  readonly client_id: string | null;
  readonly hostname: string | null;
  readonly expires_at: Millis | null;
  readonly machine_id: string | null;
  readonly machine_name: string | null;
}

/** Reservations and leases, in the order of their text, which the store can page by. */
function heldAddresses(read: Reader, subnetId: string, after: string, limit: number): Promise<Held[]> {
  const reserved = read
    .selectFrom('addresses')
    .select(['addresses.address', 'addresses.holder_id as mac'])
    .select([sql<LeaseRow['state'] | null>`null`.as('state'), sql<string | null>`null`.as('client_id')])
    .select([sql<string | null>`null`.as('hostname'), sql<Millis | null>`null`.as('expires_at')])
    .where('addresses.subnet_id', '=', subnetId)
    .where('addresses.holder_kind', '=', 'nic');
  const leased = read
    .selectFrom('leases')
    .select(['leases.address', 'leases.mac'])
    .select(['leases.state', 'leases.client_id', 'leases.hostname', 'leases.expires_at'])
    .where('leases.subnet_id', '=', subnetId);
  return read
    .selectFrom(reserved.unionAll(leased).as('held'))
    .leftJoin('machine_nics', 'machine_nics.mac', 'held.mac')
    .leftJoin('machines', 'machines.id', 'machine_nics.machine_id')
    .selectAll('held')
    .select(['machines.id as machine_id', 'machines.name as machine_name'])
    .where('held.address', '>', after)
    .orderBy('held.address')
    .limit(limit)
    .execute();
}

function present(row: Held, now: Millis) {
  const { address, mac, hostname, client_id, expires_at, machine_id, machine_name } = row;
  const isOver = expires_at !== null && expires_at <= now;
  return {
    address,
    state: row.state === null ? ('reserved' as const) : isOver ? ('expired' as const) : row.state,
    mac,
    machine: machine_id === null || machine_name === null ? null : { id: machine_id, name: machine_name },
    hostname,
    clientId: client_id,
    expiresAt: maybeIso(expires_at),
  };
}

async function requireSubnet(read: Reader, id: string): Promise<void> {
  const subnet = await read.selectFrom('subnets').select('id').where('id', '=', id).executeTakeFirst();
  if (subnet === undefined) throw new RackstartError('not-found', `There is no subnet ${id}.`);
}
