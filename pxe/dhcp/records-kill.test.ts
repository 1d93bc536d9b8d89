import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'tap';
import type { Test } from 'tap';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { silentLog } from '../../appliance/kernel/log.ts';
import { openStore } from '../../appliance/store/open.ts';
import { sqliteUrl, testDatabases } from '../../appliance/store/test-stores.ts';
import { parseMac } from '../boot-client.ts';
import { StoreLeaseBook } from './records.ts';
import { leaseRows, seedSubnet, SUBNET } from './subnet.fixture.ts';

const TITLE = 'kill -9 at any moment loses no lease that its client was told of';

test(`${TITLE} (sqlite)`, (t) => killed(t, sqliteUrl(t)));

test(`${TITLE} (postgres)`, async (t) => {
  const databases = await testDatabases();
  if (typeof databases === 'string') t.plan(0, databases);
  else await killed(t, await databases.create(t));
});

/** Three processes, one after another, each killed after so many leases. */
async function killed(t: Test, url: string): Promise<void> {
  const seeding = await openStore({ url, clock: systemClock, log: silentLog });
  await seedSubnet(seeding, { leaseFirst: '10.77.1.0', leaseLast: '10.77.200.255' });
  await seeding.close();
  const told: string[] = [];
  for (const [round, enough] of [1, 90, 333].entries()) told.push(...(await leasesUntilKilled(t, url, round, enough)));

  const store = await openStore({ url, clock: systemClock, log: silentLog });
  try {
    const rows = await leaseRows(store);
    const written = new Set(rows.map(({ mac, address, state }) => `${mac} ${address} ${state}`));
    t.same(
      told.filter((lease) => !written.has(`${lease} bound`)),
      [],
    );
    t.equal(new Set(rows.map(({ mac }) => mac)).size, rows.length);
    const book = new StoreLeaseBook({ store, subnetId: SUBNET, clock: systemClock });
    const [mac = '', address = ''] = told[0]!.split(' ');
    t.equal((await book.bind({ mac: parseMac(mac)! }, address)).kind, 'bound', 'and it is renewed');
  } finally {
    await store.close();
  }
}

async function leasesUntilKilled(t: Test, url: string, round: number, enough: number): Promise<string[]> {
  const fixture = join(import.meta.dirname, 'records-kill.fixture.ts');
  const child = spawn(process.execPath, [fixture, url, String(round)], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const told: string[] = [];
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    if (told.push(line) === enough) child.kill('SIGKILL');
  });
  await once(lines, 'close');
  t.ok(told.length >= enough, `${told.length} leases`);
  return told;
}
