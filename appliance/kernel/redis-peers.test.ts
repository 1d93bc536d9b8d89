import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { test } from 'tap';
import type { Test } from 'tap';

import { until } from '../../lab/process/until.ts';
import type { TestRedis } from '../../lab/test/redis.ts';
import { redisMissing, startRedis } from '../../lab/test/redis.ts';
import { SECOND, systemClock } from './clock.ts';
import { createIds } from './ids.ts';
import type { Log } from './log.ts';
import { RedisPeers } from './redis-peers.ts';
import { Secret } from './secret.ts';

const PASSWORD = 's3cret';

redisTest('a word reaches every other process of the appliance, and no other appliance', async (t, redis) => {
  const [a, b, c] = [peer(t, redis.url), peer(t, redis.url), peer(t, redis.url)];
  const stranger = peer(t, redis.url, 'other');
  const all = [a, b, c, stranger];
  await until('all listen', 5_000, () => all.every(({ words }) => words.length === 1));
  stranger.peers.tell('events', 'from elsewhere');
  a.peers.tell('events', 'one');
  await until('two hear it', 5_000, () => b.words.length === 2 && c.words.length === 2);
  c.peers.tell('events', 'two');
  await until('two hear that', 5_000, () => a.words.length === 2 && b.words.length === 3);
  t.same(
    all.map(({ words }) => words),
    [['look', 'two'], ['look', 'one', 'two'], ['look', 'one'], ['look']],
  );
});

redisTest(
  'after a restart of Redis words come through again, and listeners are told to look first',
  async (t, redis) => {
    const [a, b] = [peer(t, redis.url), peer(t, redis.url)];
    await until('both listen', 5_000, () => [a, b].every(({ words }) => words.length === 1));
    await redis.kill();
    await until('they notice', 5_000, () => !a.peers.connected && !b.peers.connected);
    a.peers.tell('events', 'lost');
    t.equal(await a.peers.isOurs('work', SECOND), true, 'who can ask nobody does the work');
    await redis.start();
    await until('both listen again', 15_000, () => [a, b].every(({ words }) => words.length === 2));
    a.peers.tell('events', 'back');
    await until('it is heard', 5_000, () => b.words.length === 3);
    t.same(b.words, ['look', 'look', 'back']);
    t.same(a.levels(), ['info', 'warn', 'info'], 'one line a change, not one a try');
  },
);

redisTest('one of several does a work for all, for as long as it has asked for', async (t, redis) => {
  const [a, b] = [peer(t, redis.url), peer(t, redis.url)];
  await until('both are connected', 5_000, () => a.peers.connected && b.peers.connected);
  t.same([await a.peers.isOurs('work', 60 * SECOND), await b.peers.isOurs('work', 60 * SECOND)], [true, false]);
  t.equal(await b.peers.isOurs('other work', 60 * SECOND), true);
  t.equal(await a.peers.isOurs('work', 1), true, 'it is still ours, and for a millisecond more');
  await until('another takes it', 5_000, () => b.peers.isOurs('work', 60 * SECOND));
  t.equal(await a.peers.isOurs('work', 60 * SECOND), false);
});

redisTest('a Redis that has stopped answering holds nobody up', async (t, redis) => {
  const a = peer(t, redis.url);
  await until('it is connected', 5_000, () => a.peers.connected);
  redis.freeze();
  t.equal(await a.peers.isOurs('work', SECOND), true);
});

test('without a Redis nothing fails, and one line says so, however often it is tried', async (t) => {
  let tries = 0;
  const server = createServer((socket) => {
    tries += 1;
    socket.destroy();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const a = peer(t, `redis://127.0.0.1:${String((server.address() as AddressInfo).port)}`);
  await until('it has tried again', 5_000, () => tries >= 4);
  t.equal(a.peers.connected, false);
  t.same(a.levels(), ['warn']);
});

redisTest('no password gets into the log, whether it is right or wrong', async (t, redis) => {
  const right = peer(t, redis.url);
  await until('it is connected', 5_000, () => right.peers.connected);
  const wrong = peer(t, redis.url.replace(PASSWORD, 'wr0ng'));
  await until('it is refused', 5_000, () => wrong.lines.length > 0);
  t.match(JSON.stringify(wrong.lines), /WRONGPASS/);
  t.notMatch(JSON.stringify([right.lines, wrong.lines]), /s3cret|wr0ng/);
});

function redisTest(name: string, work: (t: Test, redis: TestRedis) => Promise<void>): void {
  const skip = redisMissing() ?? false;
  test(name, { skip }, async (t) => {
    const redis = await startRedis({ password: PASSWORD });
    t.teardown(() => redis.stop());
    await work(t, redis);
  });
}

/** One process of an appliance, as far as its peers know it. */
function peer(t: Test, url: string, appliance = 'ours') {
  const lines: { level: string; fields: object; message: string }[] = [];
  const write = (level: string) => (fields: object, message: string) => void lines.push({ level, fields, message });
  const log: Log = { ...levelsOf(write), child: () => log };
  const peers = new RedisPeers({ url: new Secret(url), appliance, self: createIds(systemClock).next('proc'), log });
  const words: string[] = [];
  peers.hear('events', (word = 'look') => void words.push(word));
  const end = new AbortController();
  const running = peers.run(end.signal);
  t.teardown(() => {
    end.abort();
    return running;
  });
  return { peers, words, lines, levels: () => lines.map(({ level }) => level) };
}

function levelsOf(write: (level: string) => (fields: object, message: string) => void) {
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
}
