import { createSecretKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { createEventLog } from '../../appliance/events/event-log.ts';
import type { EventLog } from '../../appliance/events/event-log.ts';
import { Sequencer } from '../../appliance/events/sequencer.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import type { Ids } from '../../appliance/kernel/ids.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import { silentLog } from '../../appliance/kernel/log.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { Secret } from '../../appliance/kernel/secret.ts';
import { StoreBootDirector } from '../../appliance/machines/boot-director.ts';
import { placeOrder } from '../../appliance/machines/boot-order.ts';
import type { PlacedOrder } from '../../appliance/machines/boot-order.ts';
import { enrolMachine } from '../../appliance/machines/enrol.ts';
import { MachineBell } from '../../appliance/machines/machine-bell.ts';
import { watched } from '../../appliance/machines/watched-director.ts';
import { openStore } from '../../appliance/store/open.ts';
import type { Store } from '../../appliance/store/store.ts';
import type { Mac } from '../../pxe/boot-client.ts';
import type { BootDirector } from '../../pxe/boot-plan.ts';

export const SERVER = '10.77.0.1';
export const SUBNET = 'sub_rack';
export const LEASES = { first: '10.77.0.100', last: '10.77.0.131', count: 32 };
export const DAY = 24 * 3_600_000;

/** A machine of the site; its NIC's address is reserved. */
export interface SiteMachine {
  readonly id: string;
  readonly mac: Mac;
  readonly address: string;
}

/**
 * What stands behind the boot plane: the real store, events and director, on a clock of our own. Machines have the MACs
 * 52:54:00:77:00:01, :02 … and the addresses 10.77.0.10, .11 …; each has an order to be inspected.
 */
export interface Site {
  readonly store: Store;
  readonly clock: ManualClock;
  readonly ids: Ids;
  readonly events: EventLog;
  readonly tokenKey: KeyObject;
  readonly director: BootDirector;
  readonly machines: readonly SiteMachine[];
  /** For files of a target; gone with the site. */
  readonly directory: string;
  /** Orders a machine to be inspected, in a window of a year. */
  order(machine: SiteMachine): Promise<PlacedOrder>;
  close(): Promise<void>;
}

export async function openSite(machineCount: number): Promise<Site> {
  // Every commit is as durable as ever; on a disk, thousands of them would wait for it most of the time.
  const memory = process.env['TMPDIR'] ?? (existsSync('/dev/shm') ? '/dev/shm' : tmpdir());
  const directory = mkdtempSync(join(memory, 'rs-fuzz-'));
  const clock = new ManualClock();
  const ids = createIds(clock);
  const store = await openStore({ url: `sqlite:${join(directory, 'rackstart.db')}`, clock, log: silentLog });
  const events = createEventLog({ store, clock, ids, sequencer: new Sequencer({ store, clock, log: silentLog }) });
  const tokenKey = createSecretKey(Buffer.alloc(32, 7));
  const bell = new MachineBell(events);
  const imagesUrl = `http://${SERVER}:8080`;
  const director = watched(new StoreBootDirector({ store, events, bell, tokenKey, clock, ids, imagesUrl }), {
    store,
    events,
    clock,
  });
  await describeNetwork(store);
  const machines: SiteMachine[] = [];
  for (let number = 1; number <= machineCount; number++) {
    machines.push(await enrol({ store, events, ids, clock }, number));
  }
  const site: Site = {
    ...{ store, clock, ids, events, tokenKey, director, machines, directory },
    order: ({ id }) =>
      store.transaction((tx) => {
        const at = clock.now();
        return placeOrder(tx, ids, { machineId: id, verb: 'inspect' }, { at, windowUntil: at + 365 * DAY });
      }),
    async close() {
      await store.close();
      rmSync(directory, { recursive: true });
    },
  };
  for (const machine of machines) await site.order(machine);
  return site;
}

/** What no packet of a stranger may change: inventory, reservations, and the orders and boots of these machines. */
export async function siteState({ store }: Site, machines: readonly SiteMachine[]): Promise<unknown> {
  const ids = machines.map(({ id }) => id);
  const read = store.read;
  return {
    subnets: await read.selectFrom('subnets').selectAll().execute(),
    addresses: await read.selectFrom('addresses').selectAll().orderBy('address').execute(),
    nics: await read.selectFrom('machine_nics').selectAll().where('machine_id', 'in', ids).orderBy('mac').execute(),
    machines: await read.selectFrom('machines').selectAll().where('id', 'in', ids).orderBy('id').execute(),
    disks: await read.selectFrom('machine_disks').selectAll().where('machine_id', 'in', ids).execute(),
    orders: await read.selectFrom('boot_orders').selectAll().where('machine_id', 'in', ids).orderBy('id').execute(),
    boots: await read.selectFrom('boot_sessions').selectAll().where('machine_id', 'in', ids).orderBy('id').execute(),
  };
}

/** A log that counts its lines by what they say, and tells of what broke inside. */
export interface CountingLog extends Log {
  readonly lines: ReadonlyMap<string, number>;
}

export function countingLog(broken: (line: string) => void): CountingLog {
  const lines = new Map<string, number>();
  const write = (_: object, message: string) => {
    lines.set(message, (lines.get(message) ?? 0) + 1);
  };
  const look = (fields: object, message: string) => {
    write(fields, message);
    const { code } = fields as { code?: string };
    if (isDefect(code, fields)) broken(`${message} ${describe(fields)}`);
  };
  const log: CountingLog = { lines, debug: write, info: write, warn: look, error: look, child: () => log };
  return log;
}

// What is thrown and has no code of ours is a defect; a full range or too many strangers at once is not.
function isDefect(code: string | undefined, fields: object): boolean {
  return code === 'internal' || (code === undefined && ('err' in fields || 'error' in fields));
}

function describe(fields: object): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}: ${value instanceof Error ? (value.stack ?? value.message) : String(value)}`)
    .join(', ');
}

async function describeNetwork(store: Store): Promise<void> {
  await store.transaction(async (tx) => {
    await tx.insertInto('regions').values({ id: 'reg_1', name: 'lab' }).execute();
    await tx.insertInto('racks').values({ id: 'rck_1', region_id: 'reg_1', name: 'r1' }).execute();
    await tx
      .insertInto('subnets')
      .values({
        ...{ id: SUBNET, region_id: 'reg_1', role: 'both', family: 4, cidr: '10.77.0.0/24' },
        ...{ gateway: '10.77.0.254', dns: '["10.77.0.2"]', server_first: '10.77.0.50', server_last: '10.77.0.99' },
        ...{ reserved_first: '10.77.0.10', reserved_last: '10.77.0.49' },
        ...{ lease_first: LEASES.first, lease_last: LEASES.last },
      })
      .execute();
  });
}

async function enrol(
  { store, events, ids, clock }: Pick<Site, 'store' | 'events' | 'ids' | 'clock'>,
  number: number,
): Promise<SiteMachine> {
  const mac = `52:54:00:77:00:${number.toString(16).padStart(2, '0')}` as Mac;
  const password = new Secret('secret12');
  const bmc = { kind: 'ipmi', address: '10.77.9.1', port: 622 + number, username: 'admin', password } as const;
  const id = await store.transaction((tx) =>
    enrolMachine(
      tx,
      { events, ids, seal: () => 'sealed' },
      {
        ...{ name: `m${number}`, rackId: 'rck_1', bmc: { ...bmc, cipherSuite: 17 } },
        ...{ nics: [{ mac, role: 'both' }], diskRule: { minBytes: 0 } },
      },
      { actor: 'lab', at: clock.now() },
    ),
  );
  const { address } = await store.read
    .selectFrom('addresses')
    .select('address')
    .where('holder_id', '=', mac)
    .executeTakeFirstOrThrow();
  return { id, mac, address };
}
