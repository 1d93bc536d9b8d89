import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FastifyInstance, LightMyRequestResponse } from 'fastify';
import { pino } from 'pino';
import type { Test } from 'tap';

import { imageSettings } from '../../images/images-config.ts';
import type { Images } from '../../images/open-images.ts';
import { openImages } from '../../images/open-images.ts';
import type { EventLog } from '../events/event-log.ts';
import { createEventLog } from '../events/event-log.ts';
import { Sequencer } from '../events/sequencer.ts';
import { MINUTE, SECOND } from '../kernel/clock.ts';
import { Guards } from '../kernel/guard.ts';
import { createIds } from '../kernel/ids.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { Secret } from '../kernel/secret.ts';
import { BmcFleet } from '../machines/bmc-fleet.ts';
import type { Bmc } from '../machines/bmc/bmc.ts';
import { BootDeadlines } from '../machines/boot-deadlines.ts';
import type { PoolView } from '../pool/pool-keeper.ts';
import { ReadyPool } from '../pool/ready-pool.ts';
import { Discovery } from '../machines/enrolment/discovery.ts';
import { MachineCare } from '../machines/machine-care.ts';
import type { Provider } from '../providers/provider.ts';
import { Providers } from '../providers/providers.ts';
import { Dispatcher } from '../requests/dispatcher.ts';
import { provisionSaga } from '../requests/provision.ts';
import { resourcePlan } from '../saga/resource-plan.ts';
import { exponentialRetry } from '../saga/retry.ts';
import { Sagas } from '../saga/sagas.ts';
import type { Store } from '../store/store.ts';
import type { NewApiKey } from '../tenants/api-key.ts';
import { issueApiKey } from '../tenants/api-key.ts';
import { addTenant } from '../tenants/tenants.ts';
import type { ApiSettings } from './api.ts';
import { buildApi } from './api.ts';
import { Metrics } from './metrics.ts';

export const SSH_KEY = `ssh-ed25519 ${'A'.repeat(68)} someone@somewhere`;

/** The API over a store, without a network and without anybody who works on what was ordered. */
export interface ApiBench {
  readonly app: FastifyInstance;
  readonly events: EventLog;
  readonly operator: Caller;
  readonly guards: Guards;
  /** What the keeper saw, since none runs here. */
  readonly pools: PoolView[];
  /** Its services are run by nobody. */
  readonly made: Images;
  /** What has been sent to BMCs, `<machine's BMC address> <power>`. */
  readonly commands: readonly string[];
  /** Gives positions to what was appended, and tells who listens. */
  readonly sequence: () => Promise<void>;
  /** A tenant with a member's key. */
  tenant(name: string): Promise<Tenant>;
  /** Somebody with a key of their own. */
  caller(asked: Omit<NewApiKey, 'name'>): Promise<Caller>;
  /** Everything logged so far, as it would be written. */
  logged(): string;
}

export interface Tenant {
  readonly id: string;
  readonly keyId: string;
  readonly member: Caller;
}

export interface Answer {
  readonly status: number;
  /** Parsed; undefined when there is none. */
  readonly body: never;
  readonly text: string;
  readonly headers: LightMyRequestResponse['headers'];
}

/** Somebody with a key. */
export class Caller {
  readonly key: string;
  readonly app: FastifyInstance;

  constructor(app: FastifyInstance, key: string) {
    this.app = app;
    this.key = key;
  }

  get headers() {
    return { authorization: `Bearer ${this.key}` };
  }

  get(path: string): Promise<Answer> {
    return this.send('GET', path);
  }

  post(path: string, body?: object, headers: Record<string, string> = {}): Promise<Answer> {
    return this.send('POST', path, body, headers);
  }

  delete(path: string): Promise<Answer> {
    return this.send('DELETE', path);
  }

  async send(method: string, path: string, payload?: object, headers: Record<string, string> = {}): Promise<Answer> {
    const response = await this.app.inject({
      method: method as 'GET',
      url: `/api/v1${path}`,
      headers: { ...this.headers, ...headers },
      ...(payload === undefined ? {} : { payload }),
    });
    const { statusCode, body } = response;
    const parsed: unknown = body === '' ? undefined : JSON.parse(body);
    return { status: statusCode, body: parsed as never, text: body, headers: response.headers };
  }
}

export async function apiBench(
  t: Pick<Test, 'teardown'>,
  store: Store,
  clock: ManualClock,
  { images: imagesConfig, ...settings }: Partial<ApiSettings> & { images?: Parameters<typeof imageSettings>[0] } = {},
): Promise<ApiBench> {
  const lines: string[] = [];
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) });
  const ids = createIds(clock);
  const apiKeyHmac = new Secret('00'.repeat(32));
  const sequencer = new Sequencer({ store, clock, log });
  const events = createEventLog({ store, clock, ids, sequencer });
  const sagas = new Sagas({ clock, ids });
  const commands: string[] = [];
  const guards = new Guards(clock);
  const fleet = new BmcFleet({
    read: store.read,
    guards,
    unseal: () => new Secret('unsealed'),
    connect: ({ address }) => obedientBmc(address, commands),
    onCommand: () => undefined,
  });
  const rules = { ceiling: MINUTE, floor: MINUTE, factor: 3, verify: MINUTE };
  const deadlines = new BootDeadlines({ read: store.read, clock, attendance: { since: clock.now() } }, rules);
  const patience = { bootWindow: MINUTE, deadlines, takeDeadline: MINUTE, watchdog: false };
  const drive = { ...patience, events, fleet, ids, retry: exponentialRetry(3) };
  const care = new MachineCare({ events, clock, sagas, drive });
  const pool = new ReadyPool({ events, clock, sagas, drive: { ...drive, imageAhead: true } });
  const pools: PoolView[] = [];
  const seal = (id: string, password: Secret) =>
    `sealed for ${id}: ${Buffer.from(password.reveal()).toString('base64')}`;
  const unseal = (_id: string, sealed: string) =>
    new Secret(Buffer.from(sealed.split(': ')[1] ?? '', 'base64').toString());
  const directory = await mkdtemp(join(tmpdir(), 'rs-api-'));
  const made = await openImages(imageSettings(imagesConfig, directory, String), { store, events, clock, ids, log });
  const { images, uploads, imports } = made;
  const deps = {
    store,
    events,
    sagas,
    provision: provisionSaga(new Providers(nothing)),
    providers: new Providers(nothing),
    dispatcher: new Dispatcher({ store, events, sagas, clock, log }, { perTenant: 5, inAll: 1_000 }),
    fleet,
    guards,
    deadlines,
    care,
    pool,
    pools: () => pools,
    images,
    uploads,
    imports,
    clock,
    ids,
    log,
    apiKeyHmac,
    metrics: new Metrics({ read: store.read, clock, deployTarget: 78 * SECOND }),
    seal,
    unseal,
    discovery: new Discovery({ store, events, care, clock, ids, log, seal, unseal }),
  };
  const app = await buildApi(deps, {
    rateLimit: { perSecond: 100, burst: 200 },
    trustedProxies: [],
    targets: { deploySeconds: 78, deployMedianSeconds: 47 },
    ...settings,
  });
  await app.ready();
  t.teardown(async () => {
    await app.close();
    await rm(directory, { recursive: true });
  });

  const issue = (asked: NewApiKey) =>
    store.transaction((tx) => issueApiKey(tx, asked, { ids, hmacKey: apiKeyHmac, at: clock.now() }));
  const operator = new Caller(app, (await issue({ name: 'operator' })).key.reveal());
  return {
    app,
    events,
    operator,
    guards,
    pools,
    made,
    commands,
    sequence: () => sequencer.sequence(),
    logged: () => lines.join(''),
    async tenant(name) {
      const id = ids.next('ten');
      await store.transaction((tx) => addTenant(tx, { id, name }, { ids, at: clock.now() }));
      const issued = await issue({ name, tenantId: id });
      return { id, keyId: issued.id, member: new Caller(app, issued.key.reveal()) };
    },
    caller: async (asked) => new Caller(app, (await issue({ name: 'caller', ...asked })).key.reveal()),
  };
}

/** A region `west` with a subnet and a rack, a flavor `small` and an image `debian:12`. */
export async function described({ operator }: ApiBench, store: Store): Promise<{ region: string; rack: string }> {
  const region = ((await operator.post('/regions', { name: 'west' })).body as { id: string }).id;
  const rack = ((await operator.post('/racks', { name: 'r1', region })).body as { id: string }).id;
  await operator.post('/flavors', { name: 'small', cores: 2, memoryMib: 1024, diskGib: 10, nics: 'same' });
  await operator.post('/subnets', {
    region,
    role: 'both',
    cidr: '10.1.0.0/24',
    servers: { first: '10.1.0.100', last: '10.1.0.199' },
    reservations: { first: '10.1.0.10', last: '10.1.0.99' },
  });
  await store.transaction((tx) =>
    tx
      .insertInto('images')
      .values({
        id: 'img_1',
        name: 'debian',
        version: '12',
        sha256: 'ab'.repeat(32),
        bytes: 1,
        raw_bytes: 1,
        map_bytes: 1,
        source_sha256: 'cd'.repeat(32),
        root_partition: 3,
        root_fs: 'ext4',
        kernel_args: '',
        created_at: 0,
      })
      .execute(),
  );
  return { region, rack };
}

export function order(change: object = {}) {
  return { hostname: 'web-1', region: 'west', flavor: 'small', image: 'debian', sshKeys: [SSH_KEY], ...change };
}

/** The fields an answer complains about, sorted. */
export function complaints({ body }: Answer): string[] {
  const { error } = body as { error: { fields?: { field: string }[] } };
  return (error.fields ?? []).map(({ field }) => field).sort();
}

export function codeOf({ body }: Answer): string {
  return (body as { error: { code: string } }).error.code;
}

const nothing: Provider = {
  type: 'bare-metal',
  capabilities: { provesSsh: false, listsHoldings: true, waitsForPeople: false },
  clusters: [],
  plan: () => ({
    allocate: resourcePlan(),
    configure: resourcePlan(),
    activate: resourcePlan(),
    verify: resourcePlan(),
  }),
  held: () => [],
  connection: () => ({ username: 'root', addresses: [], hostKey: '' }),
  holdings: () => Promise.resolve([]),
  remove: () => Promise.resolve(),
};

function obedientBmc(address: string, commands: string[]): Bmc {
  let power: 'on' | 'off' = 'off';
  const nothingToDo = () => Promise.resolve();
  return {
    power: () => Promise.resolve(power),
    setPower(want) {
      commands.push(`${address} ${want}`);
      power = want === 'off' ? 'off' : 'on';
      return Promise.resolve();
    },
    bootOnce: nothingToDo,
    bootOnceAndReset: nothingToDo,
    clearBootOverride: nothingToDo,
    identity: () => Promise.resolve({ manufacturerId: 0, productId: 0, firmware: '1.0' }),
    newestEvent: () => Promise.resolve(0),
    faultsSince: (after) => Promise.resolve({ faults: [], upTo: after, isWhole: true }),
    watchdog: () => Promise.resolve({ armed: false, fired: false, unfedFor: 0 }),
    stopWatchdog: nothingToDo,
    close: nothingToDo,
  };
}
