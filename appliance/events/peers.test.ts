import type { Test } from 'tap';

import { until } from '../../lab/process/until.ts';
import type { TestRedis } from '../../lab/test/redis.ts';
import { redisMissing, startRedis } from '../../lab/test/redis.ts';
import type { Clock } from '../kernel/clock.ts';
import { SECOND, systemClock } from '../kernel/clock.ts';
import { createIds } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { RedisPeers } from '../kernel/redis-peers.ts';
import { Secret } from '../kernel/secret.ts';
import type { Store } from '../store/store.ts';
import { postgresStore } from '../store/test-stores.ts';
import { Consumer } from './consumer.ts';
import { createEventLog } from './event-log.ts';
import { Sequencer } from './sequencer.ts';

redisTest(
  'an event of one process is heard in another at once, without its clock',
  async (t, { store, clock, redis }) => {
    const [a, b] = [daemon(t, store, redis, clock), daemon(t, store, redis, clock)];
    await until('both are connected', 5_000, () => a.peers.connected && b.peers.connected);
    const heard = new Promise((resolve) => b.events.nudge(() => resolve(undefined)));
    await a.append('one');
    await heard;
    t.match(await b.events.read(0, 10), [{ key: 'one', position: 1 }]);
  },
);

redisTest('without Redis it is heard when the other looks, and nothing is lost', async (t, { store, clock, redis }) => {
  const [a, b] = [daemon(t, store, redis, clock), daemon(t, store, redis, clock)];
  await until('both are connected', 5_000, () => a.peers.connected && b.peers.connected);
  await redis.kill();
  await until('they notice', 5_000, () => !a.peers.connected && !b.peers.connected);
  let heard = false;
  b.events.nudge(() => (heard = true));
  await a.append('one');
  await until('it has its position', 5_000, async () => (await a.events.position()) === 1);
  t.equal(heard, false);
  await until('the other looks', 5_000, async () => {
    await clock.advance(SECOND);
    return heard;
  });
  t.match(await b.events.read(0, 10), [{ key: 'one' }]);
  await redis.start();
});

redisTest(
  'of two processes one delivers for a consumer; the other goes on when that one has ended',
  async (t, { store, redis }) => {
    const [a, b] = [daemon(t, store, redis, systemClock), daemon(t, store, redis, systemClock)];
    await until('both are connected', 5_000, () => a.peers.connected && b.peers.connected);
    const delivered: { by: string; key: string }[] = [];
    const consumer = (by: string, { events, peers }: ReturnType<typeof daemon>) => {
      const deps = { store, events, peers, clock: systemClock, log: silentLog };
      return new Consumer(deps, {
        ...{ name: 'test', period: 100 },
        deliver: async (batch) => void delivered.push(...batch.map(({ key }) => ({ by, key }))),
      });
    };
    const first = started(t, consumer('a', a));
    await a.append('one');
    await until('one delivers', 5_000, () => delivered.length === 1);
    started(t, consumer('b', b));
    for (const key of ['two', 'three']) await b.append(key);
    await until('three are delivered', 5_000, () => delivered.length === 3);
    await first.end();
    await a.append('four');
    await until('the other goes on', 5_000, () => delivered.length === 4);
    t.same(delivered, [
      { by: 'a', key: 'one' },
      { by: 'a', key: 'two' },
      { by: 'a', key: 'three' },
      { by: 'b', key: 'four' },
    ]);
  },
);

function redisTest(
  name: string,
  work: (t: Test, on: { store: Store; clock: ManualClock; redis: TestRedis }) => Promise<void>,
): void {
  postgresStore(name, async (t, store, { clock }) => {
    const missing = redisMissing();
    if (missing !== undefined) {
      t.plan(0, missing);
      return;
    }
    const redis = await startRedis();
    t.teardown(() => redis.stop());
    await work(t, { store, clock, redis });
  });
}

/** One process' event log, and its peers. */
function daemon(t: Test, store: Store, redis: TestRedis, clock: Clock) {
  const ids = createIds(systemClock);
  const log = silentLog;
  const peers = new RedisPeers({ url: new Secret(redis.url), appliance: 'test', self: ids.next('proc'), log });
  const sequencer = new Sequencer({ store, clock, log, peers });
  const events = createEventLog({ store, clock, ids, sequencer });
  started(t, peers);
  started(t, sequencer);
  const append = (key: string) =>
    store.transaction((tx) => {
      const data = { subject: key, code: 'c', message: 'm' };
      return events.append(tx, 'alert.raised', { key, actor: 'test', data });
    });
  return { peers, events, append };
}

function started(t: Test, service: { run(signal: AbortSignal): Promise<void> }) {
  const ending = new AbortController();
  const running = service.run(ending.signal);
  const end = async () => {
    ending.abort();
    await running;
  };
  t.teardown(end);
  return { end };
}
