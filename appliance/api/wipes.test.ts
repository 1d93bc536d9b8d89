import { createSecretKey, hash } from 'node:crypto';

import { createIds } from '../kernel/ids.ts';
import { recordWiped } from '../machines/wipe-certificates.ts';
import { eachStore } from '../store/test-stores.ts';
import { apiBench, codeOf, described } from './api.fixture.ts';

eachStore('an operator reads what proves that disks were wiped', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { rack } = await described(bench, store);
  const { operator, events } = bench;
  const bmc = { address: '10.0.0.1', username: 'admin', password: 'hunter2' };
  const nics = [{ mac: '52:54:00:00:00:0a', role: 'both' }];
  const { id } = (await operator.post('/machines', { name: 'm1', rack, bmc, nics })).body as { id: string };
  t.same((await operator.get(`/machines/${id}/wipes`)).body, { wipes: [] });
  const digest = hash('sha256', Buffer.alloc(512));
  const disk = { name: 'sda', bytes: 512, serial: 'S', model: 'M', method: 'zero', seconds: 2, samples: 1, digest };
  const deps = { events, ids: createIds(clock), tokenKey: createSecretKey(Buffer.alloc(32)) };
  const told = (sessionId: string, more: object) =>
    store.transaction((tx) => {
      const what = { machineId: id, sessionId, disk: { ...disk, sampledBytes: 512, ...more }, at: clock.now() };
      return recordWiped(tx, deps, what);
    });
  await clock.advance(5_000);
  await told('boot_1', { failure: 'it is broken' });
  await clock.advance(1_000);
  await told('boot_2', {});
  await told('boot_2', { method: 'discard' });
  const passed = { boot: 'boot_2', disk: 'sda', method: 'discard', result: 'passed', reason: null, sampledBytes: 512 };
  const { wipes } = (await operator.get(`/machines/${id}/wipes`)).body as {
    wipes: { seed: string; startedAt: string; endedAt: string }[];
  };
  t.match(wipes, [passed, { boot: 'boot_1', result: 'failed', reason: 'it is broken' }], 'told again, it is the same');
  t.equal(Date.parse(wipes[0]!.endedAt) - Date.parse(wipes[0]!.startedAt), 2_000);
  t.not(wipes[0]!.seed, wipes[1]!.seed, 'each boot looks elsewhere');
  for (const nothing of [{ digest: 'f'.repeat(64) }, { sampledBytes: 0 }, { sampledBytes: 2 ** 40 }]) {
    await t.rejects(told('boot_3', nothing), { code: 'request.invalid' });
  }
  t.equal(codeOf(await operator.get('/machines/mch_none/wipes')), 'not-found');
  const { member } = await bench.tenant('acme');
  t.equal(codeOf(await member.get(`/machines/${id}/wipes`)), 'auth.forbidden');
});
