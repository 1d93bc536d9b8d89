import { createIds } from '../kernel/ids.ts';
import { raiseIssue } from '../machines/machine-issues.ts';
import { eachStore } from '../store/test-stores.ts';
import { apiBench, codeOf, complaints, described } from './api.fixture.ts';

eachStore("an operator reads a machine's issues, and says that one is none", async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { rack } = await described(bench, store);
  const { operator } = bench;
  const bmc = { address: '10.0.0.1', username: 'admin', password: 'hunter2' };
  const nics = [{ mac: '52:54:00:00:00:0a', role: 'both' }];
  const { id } = (await operator.post('/machines', { name: 'm1', rack, bmc, nics })).body as { id: string };
  const path = `/machines/${id}`;
  t.match((await operator.get(path)).body, { openIssueCount: 0, openIssues: [] });
  const found = { machineId: id, evidence: { expected: 4, seen: 3 }, at: clock.now() };
  await store.transaction(async (tx) => {
    const ids = createIds(clock);
    await raiseIssue(tx, bench.events, ids, { ...found, type: 'clock-off', message: 'It is 90 s ahead.' });
    await raiseIssue(tx, bench.events, ids, { ...found, type: 'disk-missing', message: 'One of 4 disks is gone.' });
  });
  const missing = {
    type: 'disk-missing',
    severity: 'critical',
    title: 'A disk that was there is gone',
    message: 'One of 4 disks is gone.',
    evidence: { expected: 4, seen: 3 },
    resolvedAt: null,
  };
  t.match((await operator.get(path)).body, { openIssueCount: 2, openIssues: [missing, { type: 'clock-off' }] });
  t.match((await operator.get(`${path}/issues`)).body, { issues: [missing, { type: 'clock-off' }] });

  const resolve = `${path}/issues/disk-missing/resolve`;
  t.same(complaints(await operator.post(resolve, { reason: '' })), ['/reason']);
  const resolved = await operator.post(resolve, { reason: 'taken out' });
  t.match(resolved.body, { issues: [{ type: 'disk-missing', resolvedBy: /^key_/ }, { resolvedAt: null }] });
  t.equal(codeOf(await operator.post(resolve, { reason: 'again' })), 'not-found');
  t.equal(codeOf(await operator.post(`${path}/issues/no-such/resolve`, { reason: 'x' })), 'not-found');
  t.equal(codeOf(await operator.get('/machines/mch_none/issues')), 'not-found');
  t.match((await operator.get(path)).body, { openIssueCount: 1 });
  await bench.sequence();
  const trail = (await operator.get('/audit')).body as { entries: object[] };
  t.match(JSON.stringify(trail), /machine\.issue-resolved/, 'and that is in the audit trail');
});

eachStore("a tenant sees no machine's issues", async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { member } = await bench.tenant('acme');
  t.equal(codeOf(await member.get('/machines/mch_1/issues')), 'auth.forbidden');
  t.equal(codeOf(await member.post('/machines/mch_1/issues/clock-off/resolve', { reason: 'x' })), 'auth.forbidden');
});
