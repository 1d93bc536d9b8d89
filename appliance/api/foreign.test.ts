import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { zstdCompressSync } from 'node:zlib';
import type { InjectOptions } from 'fastify';
import { sql } from 'kysely';
import type { Test } from 'tap';
import { WebSocket } from 'ws';

import { tinyDisk } from '../../lab/disk/tiny-disk.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import type { MachineState } from '../machines/machine-states.ts';
import type { Store } from '../store/store.ts';
import { sqliteStore } from '../store/test-stores.ts';
import { addUser } from '../tenants/users.ts';
import type { ApiBench } from './api.fixture.ts';
import { Caller, apiBench, described, order, SSH_KEY } from './api.fixture.ts';
import {
  acceptRule,
  awaitedAccess,
  bootOf,
  discoveredMachine,
  expectedMachines,
  imageOf,
  manifestOf,
  slowNicOf,
  stuckSaga,
} from './things.fixture.ts';
import type { Ids, Operation, Place, Texts } from './walk.fixture.ts';
import { Sent, callOf, kindsOf, operationsOf, placesOf } from './walk.fixture.ts';

const disk = zstdCompressSync(tinyDisk());
const part = new Sent('application/offset+octet-stream', Buffer.alloc(1), { 'upload-offset': '0' });

const texts: Texts = {
  mac: '52:54:00:00:00:0a',
  'POST /machines mac': '52:54:00:00:00:0b',
  'POST /quota-requests servers': 500,
  limit: 1000,
  hostname: 'walk',
  region: 'west',
  flavor: 'small',
  image: 'debian',
  sshKeys: [SSH_KEY],
  role: 'member',
  address: '10.0.0.9',
  addresses: ['10.0.0.7'],
  cidr: '10.9.0.0/24',
  first: '10.9.0.10',
  last: '10.9.0.20',
  username: 'root',
  sha256: createHash('sha256').update(disk).digest('hex'),
  'POST /images': new Sent('application/zstd', disk),
  'PATCH /images/uploads/{id}': part,
  url: 'https://images.example/disk',
  type: 'nic-slow',
  network: '10.9.0.0/24',
  macPrefix: '52:54:00',
  'POST /discovered-machines/{id}/accept name': 'accepted',
  'POST /manifest text': manifestOf('W9', 'w9', '10.0.9.9'),
};

sqliteStore("another tenant's things look as if they did not exist, on every route", async (t, store, { clock }) => {
  const world = await openWorld(t, store, clock);
  const { bench, theirs, strangers, markers } = world;
  const operations = await operationsOf(bench.app);
  t.ok(operations.length > 50, `${operations.length} routes`);
  const before = await rowsOf(store, theirs['tenant'] ?? '');
  let compared = 0;
  for (const operation of operations) {
    for (const kind of kindsOf(operation)) {
      const places = placesOf(operation, kind, texts);
      for (const [who, stranger] of Object.entries(strangers)) {
        for (const place of places) {
          const real = await ask(stranger, operation, kind, place, theirs);
          const absent = await ask(stranger, operation, kind, place, absentIds(theirs));
          t.same(real, absent, `${who}: ${operation.name} ${kind} with ${place.of} in ${place.name}`);
          t.notOk(found(real, markers), `${who}: ${operation.name} tells nothing of them`);
          compared += 1;
        }
        if (places.some((place) => place.in === 'path')) continue;
        const call = callOf(operation, { kind, named: [], ids: () => 'none', texts });
        if (call.method === 'GET') t.notOk(found(await answer(stranger, call), markers), `${who}: ${operation.name}`);
      }
    }
  }
  t.ok(compared > 100, `${compared} comparisons`);
  t.same(await rowsOf(store, theirs['tenant'] ?? ''), before, 'nothing of theirs was changed');
});

sqliteStore(
  'the walk names things that are there: who may see them gets another answer',
  async (t, store, { clock }) => {
    const { bench, theirs, owner } = await openWorld(t, store, clock);
    const rank = ({ method }: Operation) => ['GET', 'PATCH', 'POST', 'PUT', 'DELETE'].indexOf(method);
    const operations = (await operationsOf(bench.app)).sort((a, b) => rank(a) - rank(b));
    for (const operation of operations) {
      for (const kind of kindsOf(operation)) {
        for (const place of placesOf(operation, kind, texts)) {
          const differs = [];
          for (const caller of [owner, bench.operator]) {
            const absent = await ask(caller, operation, kind, place, absentIds(theirs));
            differs.push(JSON.stringify(await ask(caller, operation, kind, place, theirs)) !== JSON.stringify(absent));
          }
          t.ok(differs.includes(true), `${operation.name} ${kind} with ${place.of} in ${place.name}`);
        }
      }
    }
  },
);

sqliteStore(
  'keys that are valid no more are told so, the same on every route and about everything',
  async (t, store, c) => {
    const { bench, theirs, dead } = await openWorld(t, store, c.clock);
    for (const [code, caller] of Object.entries(dead)) {
      for (const operation of await operationsOf(bench.app)) {
        const [kind = ''] = kindsOf(operation);
        for (const ids of [theirs, absentIds(theirs)]) {
          const call = callOf(operation, { kind, named: [], ids: ({ of }) => ids[of] ?? 'none', texts });
          const { status, text } = await answer(caller, call);
          t.equal(status, 401, `${operation.name}: ${code}`);
          t.match(JSON.parse(text), { error: { code } });
        }
      }
    }
  },
);

sqliteStore("who follows events live hears of its own tenant's alone", async (t, store, { clock }) => {
  const { bench, strangers, dead, markers } = await openWorld(t, store, clock);
  await bench.app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = bench.app.server.address() as AddressInfo;
  const url = `ws://127.0.0.1:${port}/api/v1/events/live?after=0`;
  await bench.operator.post('/projects', { name: 'last', tenant: await ownTenant(strangers['admin']) });
  await bench.sequence();
  for (const [who, { headers }] of Object.entries(strangers)) {
    const socket = new WebSocket(url, { headers });
    t.teardown(() => socket.terminate());
    const messages: string[] = [];
    socket.on('message', (text: Buffer) => messages.push(text.toString()));
    while (!messages.at(-1)?.includes('project.created')) await once(socket, 'message');
    t.notOk(found({ text: messages.join('') }, markers), who);
  }
  for (const [code, { headers }] of Object.entries(dead)) {
    const [error] = (await once(new WebSocket(url, { headers }), 'error')) as [Error];
    t.match(error.message, /401/, code);
  }
});

sqliteStore('whatever is changed through the API is in the audit trail', async (t, store, { clock }) => {
  const { bench, theirs } = await openWorld(t, store, clock);
  const set = (state: MachineState) => store.transaction((tx) => tx.updateTable('machines').set({ state }).execute());
  for (const operation of deletionsLast(await operationsOf(bench.app))) {
    // Of a file, its announcement is told, and what becomes of it; not its parts.
    if (operation.method === 'GET' || operation.name === 'PATCH /images/uploads/{id}') continue;
    await set(stateFor(operation));
    const [kind = ''] = kindsOf(operation);
    const named = placesOf(operation, kind, texts).filter(({ name }) => name === 'tenant');
    const change = callOf(operation, { kind, named, ids: ({ of }) => theirs[of] ?? 'none', texts });
    const { position } = await auditAfter(bench, 0);
    const { status, text } = await answer(bench.operator, change);
    t.match(status, /^2/, `${operation.name}: ${text}`);
    const { entries } = await auditAfter(bench, position);
    t.match(entries, [{ at: String, what: String, about: String, from: '127.0.0.1' }], operation.name);
    t.match(entries[0], { who: { role: 'operator', keyName: 'operator', user: null } }, operation.name);
  }
});

/** What a machine must be for something to happen to it. */
function stateFor({ path }: Operation): MachineState {
  if (path.endsWith('readmit')) return 'quarantined';
  return path.endsWith('drain') ? 'ready' : 'available';
}

interface World {
  readonly bench: ApiBench;
  /** One thing of each kind, the tenant's or the fleet's. */
  readonly theirs: Ids;
  /** Their admin. */
  readonly owner: Caller;
  readonly strangers: Readonly<Record<string, Caller>>;
  /** By the code that they are refused with. */
  readonly dead: Readonly<Record<string, Caller>>;
  /** What nobody else may read anywhere. */
  readonly markers: readonly string[];
}

/** Tenant `acme-hidden` with one of everything, and tenant `rival` with keys of every kind. */
async function openWorld(t: Test, store: Store, clock: ManualClock): Promise<World> {
  const images = { imports: { hosts: ['images.example'] } };
  const bench = await apiBench(t, store, clock, { rateLimit: { perSecond: 100_000, burst: 100_000 }, images });
  const { operator } = bench;
  const { region, rack } = await described(bench, store);
  const [acme, rival] = [await bench.tenant('acme-hidden'), await bench.tenant('rival')];
  const owner = await bench.caller({ role: 'tenant-admin', tenantId: acme.id });
  const made = async (path: string, body: object, by = owner) => idIn(await by.post(path, body), path);
  const bmc = { address: '10.0.0.1', username: 'admin', password: 'hunter2' };
  const project = await made('/projects', { name: 'acme-project' });
  const user = await made('/users', { name: 'acme-user', role: 'member' });
  const server = await made('/servers', order({ hostname: 'acme-server' }));
  const key = await made('/api-keys', { name: 'acme-key', user });
  const asked = { kind: 'project', holder: project, cores: 20_000, reason: 'acme-reason' };
  const quotaRequest = await made('/quota-requests', asked);
  const nics = [{ mac: texts['mac'], role: 'both' }];
  const machine = await made('/machines', { name: 'acme-machine', rack, bmc, nics }, operator);
  await slowNicOf(store, bench.events, clock, machine);
  const entry = await awaitedAccess(store, server);
  const file = (name: string) => ({ name, version: '1', format: 'raw', sha256: texts['sha256'] });
  const upload = await made('/images/uploads', { ...file('acme-upload'), bytes: 2 });
  const whole = await made('/images/uploads', { ...file('acme-whole'), bytes: 1 });
  const { type, headers, body: payload } = part;
  const url = `/api/v1/images/uploads/${whole}`;
  await answer(owner, { method: 'PATCH', url, headers: { 'content-type': type, ...headers }, payload });
  const fetched = await owner.post('/images/imports', { ...file('acme-fetched'), url: texts['url'] });
  const { import: imported } = fetched.body as { import: string };
  const image = await imageOf(store, acme.id, 'acme-image');
  const boot = await bootOf(store, clock, machine);
  const { id: stuck } = await stuckSaga(store, machine);
  const subnet = await store.read.selectFrom('subnets').select('id').executeTakeFirstOrThrow();
  await bench.sequence();
  const theirs: Ids = {
    ...{ tenant: acme.id, project, user, server, 'api-key': key, 'quota-request': quotaRequest, 'access-entry': entry },
    ...{ region, rack, machine, boot, stuck, subnet: subnet.id },
    manifest: (await expectedMachines(operator, 1))[0] ?? '',
    'discovered-machine': await discoveredMachine(store, 2),
    'waiting-machine': await discoveredMachine(store, 1),
    'accept-rule': await acceptRule(operator, 'acme-rule'),
    ...{ image, upload, 'whole-upload': whole, import: imported },
  };
  const tenantId = rival.id;
  const disabled = 'usr_disabled';
  await store.transaction((tx) => addUser(tx, { id: disabled, tenantId, name: 'gone', role: 'member' }, clock.now()));
  const dead = {
    'auth.expired': await bench.caller({ tenantId, expiresAt: clock.now() }),
    'auth.revoked': rival.member,
    'auth.disabled': await bench.caller({ tenantId, userId: disabled }),
    'auth.invalid': new Caller(bench.app, 'nobody'),
  };
  await operator.delete(`/api-keys/${rival.keyId}`);
  await operator.post(`/users/${disabled}/disable`);
  const fleets = [
    'region',
    'rack',
    'machine',
    'boot',
    'stuck',
    'subnet',
    'manifest',
    'discovered-machine',
    'waiting-machine',
    'accept-rule',
  ];
  const own = Object.entries(theirs).flatMap(([of, id]) => (fleets.includes(of) ? [] : [id]));
  return {
    ...{ bench, theirs, owner, dead },
    strangers: {
      admin: await bench.caller({ role: 'tenant-admin', tenantId }),
      member: await bench.caller({ role: 'member', tenantId }),
      auditor: await bench.caller({ role: 'auditor', tenantId }),
    },
    markers: [...own, acme.keyId, 'acme-', 'hunter2'],
  };
}

function idIn(answer: { status: number; body: never; text: string }, path: string): string {
  const { id } = answer.body as { id?: string };
  if (id === undefined) throw new Error(`${path}: ${answer.text}`);
  return id;
}

/** Ids that look like those, and are nobody's. */
function absentIds(ids: Ids): Ids {
  return Object.fromEntries(Object.entries(ids).map(([of, id]) => [of, id.replaceAll(/(?<=_.*)[^_]/g, '0')]));
}

function deletionsLast(operations: readonly Operation[]): Operation[] {
  return operations.toSorted((a, b) => Number(a.method === 'DELETE') - Number(b.method === 'DELETE'));
}

interface Said {
  readonly status: number;
  readonly headers: unknown;
  readonly text: string;
}

/** What is answered when this id is in this place, the id itself left out. */
async function ask(caller: Caller, operation: Operation, kind: string, place: Place, ids: Ids): Promise<Said> {
  const id = ids[place.of];
  if (id === undefined) throw new Error(`The walk knows no ${place.of}, which ${operation.name} names.`);
  const call = callOf(operation, { kind, named: [place], ids: ({ of }) => ids[of] ?? 'none', texts });
  const { status, headers, text } = await answer(caller, call);
  return { status, headers, text: text.replaceAll(id, 'ID') };
}

async function answer({ app, headers: key }: Caller, { headers: own, ...call }: InjectOptions): Promise<Said> {
  const { statusCode, headers, rawPayload } = await app.inject({ ...call, headers: { ...own, ...key } });
  const { date: _, ...rest } = headers;
  return { status: statusCode, headers: rest, text: rawPayload.toString('latin1') };
}

function found({ text }: Pick<Said, 'text'>, markers: readonly string[]): string | undefined {
  return markers.find((marker) => text.includes(marker));
}

async function ownTenant(caller: Caller | undefined): Promise<string | undefined> {
  const list = (await caller?.get('/tenants'))?.body as { tenants: { id: string }[] } | undefined;
  return list?.tenants[0]?.id;
}

interface Trail {
  readonly entries: readonly unknown[];
  readonly position: number;
}

async function auditAfter(bench: ApiBench, position: number): Promise<Trail> {
  await bench.sequence();
  return (await bench.operator.get(`/audit?limit=1000&after=${position}`)).body;
}

/** Every row of the tenant, from whatever table has tenants. */
async function rowsOf(store: Store, tenantId: string): Promise<unknown> {
  return store.transaction(async (tx) => {
    const tables = await sql<{ name: string }>`select m.name from sqlite_schema m join pragma_table_info(m.name) c
      where m.type = 'table' and c.name = 'tenant_id' order by m.name`.execute(tx);
    const rows: unknown[] = [];
    for (const { name } of tables.rows) {
      const found = await sql`select * from ${sql.table(name)} where tenant_id = ${tenantId}`.execute(tx);
      rows.push({ name, rows: found.rows });
    }
    return rows;
  });
}
