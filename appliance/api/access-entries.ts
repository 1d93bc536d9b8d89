import { Type } from 'typebox';

import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { checkedAccess } from '../providers/manual/access-details.ts';
import type { AskedAccess } from '../providers/manual/access-entry.ts';
import { awaitedAccess, enterAccess } from '../providers/manual/access-entry.ts';
import type { AccessEntryRow } from '../store/schema.ts';
import type { Reader, Store } from '../store/store.ts';
import { doneBy } from './auth.ts';
import { Id, IdParams, Timestamp, iso, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';

export interface AccessEntryRouteDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly clock: Clock;
}

const Asked = Type.Object({
  id: Id,
  tenant: Id,
  server: Id,
  hostname: Type.String(),
  region: Type.String(),
  flavor: Type.Object({
    name: Type.String(),
    cores: Type.Integer(),
    memoryMib: Type.Integer(),
    diskGib: Type.Integer(),
  }),
  image: Type.String(),
  sshKeys: Type.Array(Type.String(), { description: "The tenant's: root, or whoever is named, must let them in." }),
  userData: Type.Optional(Type.String()),
  askedAt: Timestamp,
});

const Details = Type.Object(
  {
    username: Type.String({
      pattern: '^[A-Za-z_][A-Za-z0-9_.-]{0,31}$',
      default: 'root',
      description:
        "Whom the tenant's SSH key lets in. There are no passwords: one that must be kept is one that leaks.",
    }),
    addresses: Type.Array(Type.String({ minLength: 2, maxLength: 45 }), {
      minItems: 1,
      maxItems: 8,
      description: 'IPv4 or IPv6; SSH is tried at the first, port 22.',
    }),
    hostKey: Type.Optional(
      Type.String({ minLength: 80, maxLength: 512, description: '`ssh-ed25519 AAAA…`, as the server shows it.' }),
    ),
    verify: Type.Boolean({
      default: true,
      description: 'false: the server cannot be reached from here, and is taken on your word.',
    }),
  },
  strict,
);

const Entered = Type.Object({
  id: Id,
  username: Type.String(),
  addresses: Type.Array(Type.String()),
  hostKey: Type.Union([Type.String(), Type.Null()]),
  verify: Type.Boolean(),
  enteredBy: Type.String(),
  enteredAt: Timestamp,
});

const tags = ['operations'];

/** Servers that a person makes, and then says how they are reached; an operator's alone. */
export function accessEntryRoutes(api: Api, { store, events, clock }: AccessEntryRouteDeps): void {
  api.get(
    '/access-entries',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'List the servers that wait for a person to make them, the oldest first',
        response: { 200: Type.Object({ entries: Type.Array(Asked) }), ...problems },
      },
    },
    async () => {
      const asked = await awaitedAccess(store.read);
      return { entries: await Promise.all(asked.map((one) => presentAsked(store.read, one))) };
    },
  );

  api.post(
    '/access-entries/:id',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Say how a server is reached that was made by hand',
        description: 'The same details again are the same answer; others are refused with `state.conflict`.',
        params: IdParams,
        body: Details,
        response: { 200: Entered, ...problems },
      },
    },
    async (request) => {
      const { username, addresses, hostKey = null, verify } = request.body;
      const details = checkedAccess({ username, addresses, hostKey, verify });
      const entering = { attemptId: request.params.id, details, ...doneBy(request), at: clock.now() };
      return presentEntered(await store.transaction((tx) => enterAccess(tx, events, entering)));
    },
  );
}

async function presentAsked(read: Reader, { attempt_id, asked_at, request }: AskedAccess) {
  const { region, image, version, name, cores, memory_mib, disk_gib } = await read
    .selectFrom('requests')
    .innerJoin('flavors', 'flavors.id', 'requests.flavor_id')
    .innerJoin('images', 'images.id', 'requests.image_id')
    .innerJoin('regions', 'regions.id', 'requests.region_id')
    .select(['regions.name as region', 'images.name as image', 'images.version'])
    .select(['flavors.name', 'flavors.cores', 'flavors.memory_mib', 'flavors.disk_gib'])
    .where('requests.id', '=', request.id)
    .executeTakeFirstOrThrow();
  const { sshKeys, userData } = JSON.parse(request.params) as { sshKeys: string[]; userData?: string };
  return {
    id: attempt_id,
    tenant: request.tenant_id,
    server: request.id,
    hostname: request.hostname,
    region,
    flavor: { name, cores, memoryMib: memory_mib, diskGib: disk_gib },
    image: `${image}:${version}`,
    sshKeys,
    ...(userData !== undefined && { userData }),
    askedAt: iso(asked_at),
  };
}

function presentEntered({ attempt_id, connection, entered_by, entered_at }: AccessEntryRow) {
  const { username, addresses, hostKey, verify } = JSON.parse(connection ?? '{}') as ReturnType<typeof checkedAccess>;
  const who = { enteredBy: entered_by ?? '', enteredAt: iso(entered_at ?? 0) };
  return { id: attempt_id, username, addresses: [...addresses], hostKey, verify, ...who };
}
