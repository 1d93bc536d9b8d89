import { twoMachines } from '../../pxe/timeline.fixture.ts';
import type { Store } from '../store/store.ts';
import { sqliteStore } from '../store/test-stores.ts';
import { stageClock } from './stage-clock.ts';

sqliteStore('a loader on its way moves its boot; firmware that begins again and again does not', async (t, store) => {
  await twoMachines(store);
  t.same(await clockOf(store), { stage: 'dhcp', since: 200 }, 'the self-test, since the boot was opened');
  await seen(store, 210, 'dhcp', 'ack', { boot: 'undionly.kpxe' });
  await seen(store, 220, 'tftp', 'started');
  t.same(await clockOf(store), { stage: 'loader', since: 220 });
  await seen(store, 230, 'dhcp', 'discover', { kind: 'ipxe' });
  await seen(store, 240, 'http', 'script-refused');
  t.same(await clockOf(store), { stage: 'loader', since: 240 });
  await seen(store, 300, 'dhcp', 'discover', { kind: 'pxe-rom' });
  await seen(store, 310, 'tftp', 'started');
  t.same(await clockOf(store), { stage: 'loader', since: 240 }, 'its second round is no progress');
});

async function clockOf(store: Store) {
  const boot = store.read.selectFrom('boot_sessions').selectAll().where('id', '=', 's2');
  return stageClock(store.read, await boot.executeTakeFirstOrThrow());
}

async function seen(
  store: Store,
  at: number,
  source: 'dhcp' | 'tftp' | 'http',
  name: string,
  detail = {},
): Promise<void> {
  const row = { id: `tl_${String(at)}`, machine_id: 'm1', session_id: 's2', at, source, name };
  const told = { ...row, detail: JSON.stringify(detail), packet: null };
  await store.transaction((tx) => tx.insertInto('timeline').values(told).execute());
}
