import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import pg from 'pg';

import { apiBench, described, order } from '../../appliance/api/api.fixture.ts';
import type { ApiBench, Tenant } from '../../appliance/api/api.fixture.ts';
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
} from '../../appliance/api/things.fixture.ts';
import type { EventLog } from '../../appliance/events/event-log.ts';
import { silentLog } from '../../appliance/kernel/log.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { examine } from '../../appliance/store/doctor.ts';
import { openStore } from '../../appliance/store/open.ts';
import type { Store } from '../../appliance/store/store.ts';
import { startPostgres } from '../test/postgres.ts';
import type { ApiDocument, Operation } from './api-document.ts';
import { readDocument } from './api-document.ts';
import type { World } from './api-request.ts';
import { singular } from './api-request.ts';
import { turns } from './campaign.ts';
import { HttpWire, inMemory, overTcp } from './http-wire.ts';
import type { HttpAnswer } from './http-wire.ts';
import { SERVER } from './site.ts';

/** The public API on the real server and store, on a clock of our own, with somebody who attacks and somebody who does not. */
export interface ApiSite {
  readonly store: Store;
  readonly events: EventLog;
  readonly clock: ManualClock;
  readonly document: ApiDocument;
  readonly world: World & { readonly known: Record<string, unknown[]> };
  readonly wires: Readonly<Record<'direct' | 'socket', HttpWire>>;
  readonly good: Readonly<Record<'direct' | 'socket', HttpWire>>;
  /** Whom nobody attacks for, and whose things stay as they are. */
  readonly calm: { readonly tenant: string; readonly key: string; readonly before: unknown };
  close(): Promise<void>;
}

export async function openApiSite(databases: Databases): Promise<ApiSite> {
  const database = await databases.make();
  const clock = new ManualClock();
  const store = await openStore({ url: database.url, clock, log: silentLog });
  const endings: (() => unknown)[] = [];
  const ending = { teardown: (end: () => unknown) => void endings.push(end) };
  const bench = await apiBench(ending, store, clock, {
    rateLimit: { perSecond: 100_000, burst: 1_000_000 },
    images: { imports: { hosts: ['images.example'] } },
  });
  await bench.app.listen({ host: SERVER, port: 0 });
  const { region, rack } = await described(bench, store);
  const [calm, hostile] = [await bench.tenant('calm'), await bench.tenant('hostile')];
  await calm.member.post('/servers', order());
  const known = await knownOf({ bench, store, clock, hostile, region, rack });
  const document = readDocument((await bench.app.inject({ url: '/docs/json' })).body);
  const before = await thingsOf(store, calm.id);
  const wires = wiresTo(bench);
  const good = wiresTo(bench);
  return {
    ...{ store, events: bench.events, clock, document, wires, good },
    world: {
      operator: bench.operator.key,
      member: hostile.member.key,
      known,
    },
    calm: { tenant: calm.id, key: calm.member.key, before },
    async close() {
      for (const wire of [...Object.values(wires), ...Object.values(good)]) wire.hangUp();
      await turns(20);
      for (const end of endings) await end();
      await store.close();
      await database.remove();
    },
  };
}

interface Known {
  readonly bench: ApiBench;
  readonly store: Store;
  readonly clock: ManualClock;
  readonly hostile: Tenant;
  readonly region: string;
  readonly rack: string;
}

/** One of everything, by what it is, and values that a region's networks can have. */
async function knownOf({ bench, store, clock, hostile, region, rack }: Known): Promise<Record<string, unknown[]>> {
  const made = async (path: string, body: object, by = bench.operator) =>
    ((await by.post(path, body)).body as { id: string }).id;
  const server = await made('/servers', order(), hostile.member);
  const machines: string[] = [];
  for (const index of [1, 2, 3]) {
    const bmc = { address: `10.0.0.${index}`, username: 'admin', password: 'hunter2hunter2' };
    const nics = [{ mac: `52:54:00:00:00:0${index}`, role: 'both' }];
    machines.push(await made('/machines', { name: `m${index}`, rack, bmc, nics }));
  }
  const stuck = await stuckSaga(store, machines[0]!);
  const entry = await awaitedAccess(store, server);
  const boot = await bootOf(store, clock, machines[0]!);
  const file = { name: 'whole', version: '1', format: 'raw', bytes: 1, sha256: 'ab'.repeat(32) };
  const whole = await made('/images/uploads', file, hostile.member);
  await sendPart(hostile.member, whole);
  const projects = store.read.selectFrom('projects').select('id').where('tenant_id', '=', hostile.id);
  const { id: project } = await projects.executeTakeFirstOrThrow();
  const subnet = await store.read.selectFrom('subnets').select('id').executeTakeFirstOrThrow();
  return {
    ...{
      region: ['west', region],
      rack: [rack],
      subnet: [subnet.id],
      flavor: ['small'],
      image: ['debian', 'debian:12', await imageOf(store, hostile.id, 'fuzz')],
    },
    ...{ tenant: [hostile.id], kind: ['project'], project: ['default', project], holder: [project] },
    ...{ server: [server], provider: ['bare-metal'], cluster: ['default'], addresses: ['10.1.0.7', 'fd00::7'] },
    ...{ machine: machines, nic: ['52:54:00:00:00:01', '52:54:00:00:00:02'], boot: [boot] },
    ...{ 'access-entry': [entry], stuck: [stuck.id], issue: ['nic-slow'] },
    ...{ upload: [whole], bytes: [1, 200, 65_536], 'upload-offset': [0], url: ['https://images.example/disk'] },
    ...{ text: [manifestOf('F1', 'f1', '10.0.8.7')], manifest: await expectedMachines(bench.operator, 6) },
    ...{ 'accept-rule': [await acceptRule(bench.operator, 'fuzz')], network: ['10.9.0.0/24', '10.9.0.0/16'] },
    'discovered-machine': [await discoveredMachine(store, 1), await discoveredMachine(store, 3)],
    mac: Array.from({ length: 200 }, (_, index) => `52:54:00:00:01:${index.toString(16).padStart(2, '0')}`),
    cidr: ['10.9.0.0/24', '10.9.0.0/23', '10.9.0.0/22'],
    servers: [{ first: '10.9.0.100', last: '10.9.0.199' }],
    reservations: [{ first: '10.9.0.10', last: '10.9.0.99' }],
  };
}

/** All of it: one byte. */
async function sendPart({ app, headers }: Tenant['member'], upload: string): Promise<void> {
  const type = { 'content-type': 'application/offset+octet-stream', 'upload-offset': '0' };
  const url = `/api/v1/images/uploads/${upload}`;
  await app.inject({ method: 'PATCH', url, headers: { ...headers, ...type }, payload: Buffer.from('x') });
}

function wiresTo({ app }: ApiBench): Record<'direct' | 'socket', HttpWire> {
  const { port } = app.server.address() as AddressInfo;
  // An address may hold so many connections at once, and those that were hung up on take a moment to go.
  let last = 0;
  const address = () => `10.77.2.${1 + (last++ % 200)}`;
  return { direct: new HttpWire(inMemory(app.server, false)), socket: new HttpWire(overTcp(port, address)) };
}

/** Ids that were given to who attacks: what it may ask about next. */
export function remember({ world, calm }: ApiSite, operation: Operation | undefined, answer: HttpAnswer): void {
  const collection = /^\/api\/v1\/(?:images\/)?([^/{]+)/.exec(operation?.path ?? '')?.[1];
  if (operation?.method !== 'POST' || answer.status > 299 || answer.body === '' || collection === undefined) return;
  const { id, tenant, import: begun } = JSON.parse(answer.body) as { id?: string; tenant?: string; import?: string };
  const made = begun ?? id;
  if (made === undefined || made === calm.tenant || tenant === calm.tenant) return;
  const known = (world.known[begun === undefined ? singular(collection) : 'import'] ??= []);
  known.push(made);
  // The oldest but the first: what the site began with stays, and is asked about often, since some routes fit nothing else.
  if (known.length > 8) known.splice(3, 1);
}

/** What goes on of itself elsewhere, and what only it brings about: machines that were looked at, failures, people who are asked. */
export async function goOn({ store, events, clock, world }: ApiSite): Promise<void> {
  const [machine = '', broken = ''] = world.known['machine'] as string[];
  const entries = world.known['access-entry'] as string[];
  const images = world.known['image'] as string[];
  await store.transaction(async (tx) => {
    const machines = tx.updateTable('machines').where('state', 'in', ['inspecting', 'warming', 'draining']);
    await machines.set({ state: 'available' }).where('id', '!=', broken).execute();
    await tx.updateTable('machines').set({ state: 'quarantined' }).where('id', '=', broken).execute();
    const unanswered = { connection: null, entered_by: null, entered_at: null };
    await tx.updateTable('images').set({ deleted_at: null }).where('id', 'in', images).execute();
    await tx.updateTable('access_entries').set(unanswered).where('attempt_id', 'in', entries).execute();
    await tx
      .deleteFrom('saga_steps')
      .where('saga_id', 'in', world.known['stuck'] as string[])
      .execute();
  });
  world.known['stuck'] = [(await stuckSaga(store, machine)).id];
  await slowNicOf(store, events, clock, machine);
  const strangers = (world.known['discovered-machine'] ??= []);
  strangers.push(await discoveredMachine(store, 2 * strangers.length + 1));
}

/** What the calm tenant does, and is answered, without what is new each time. */
export async function goodStory({ calm }: ApiSite, wire: HttpWire): Promise<string> {
  const say = async (line: string, body = '') => {
    const head = `${line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${calm.key}\r\n`;
    const type = body === '' ? '' : `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`;
    const answer = await wire.ask(Buffer.from(`${head}${type}\r\n${body}`), false, () => turns(1));
    if (answer === undefined || answer.status >= 300) throw new Error(`${line}: ${answer?.status} ${answer?.body}`);
    return answer;
  };
  const listed = await say('GET /api/v1/servers');
  const { servers } = JSON.parse(listed.body) as { servers: [{ id: string }] };
  const shown = await say(`GET /api/v1/servers/${servers[0].id}`);
  const projects = await say('GET /api/v1/projects');
  const news = /"(id|project|tenant)":"[a-z]{3}_[^"]*"/g;
  return [listed, shown, projects]
    .map(({ status, body }) => `${status} ${body.replaceAll(news, '"$1":"*"')}`)
    .join('\n');
}

/** What must not be after any number of inputs: broken invariants, and a change of the calm tenant's things. */
export async function faultsOf({ store, calm }: ApiSite): Promise<string[]> {
  const faults = (await examine(store.read)).map((finding) => `the doctor finds ${JSON.stringify(finding)}`);
  const after = await thingsOf(store, calm.tenant);
  if (!isDeepStrictEqual(after, calm.before)) faults.push(`another's things have changed: ${JSON.stringify(after)}`);
  return faults;
}

async function thingsOf({ read }: Store, tenant: string): Promise<unknown> {
  return {
    requests: await read.selectFrom('requests').selectAll().where('tenant_id', '=', tenant).execute(),
    attempts: await read.selectFrom('attempts').selectAll().where('tenant_id', '=', tenant).execute(),
    projects: await read.selectFrom('projects').selectAll().where('tenant_id', '=', tenant).execute(),
    quotas: await read.selectFrom('quotas').selectAll().where('tenant_id', '=', tenant).orderBy('holder_id').execute(),
    keys: await read.selectFrom('api_keys').selectAll().where('tenant_id', '=', tenant).execute(),
  };
}

export interface Databases {
  make(): Promise<{ url: string; remove(): Promise<void> }>;
  close(): Promise<void>;
}

// Every commit is as durable as ever; on a disk, thousands of them would wait for it most of the time.
export function sqlite(): Databases {
  return {
    async make() {
      const directory = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'rs-fuzz-'));
      const remove = async () => rmSync(directory, { recursive: true });
      return { url: `sqlite:${join(directory, 'rackstart.db')}`, remove };
    },
    close: async () => undefined,
  };
}

export async function postgres(): Promise<Databases> {
  const server = await startPostgres();
  const admin = new pg.Client({ connectionString: server.url });
  await admin.connect();
  let made = 0;
  return {
    async make() {
      const name = `fuzz_${made++}`;
      await admin.query(`create database ${name}`);
      const remove = async () => {
        await admin.query(`drop database ${name} with (force)`);
      };
      return { url: server.url.replace('/postgres?', `/${name}?`), remove };
    },
    async close() {
      await admin.end();
      await server.stop();
    },
  };
}
