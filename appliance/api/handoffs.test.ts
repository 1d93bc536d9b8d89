import { eachStore } from '../store/test-stores.ts';
import { apiBench, codeOf, complaints } from './api.fixture.ts';

eachStore(
  'an operator says how a model starts its servers, and what was counted begins anew',
  async (t, store, { clock }) => {
    const { operator, sequence } = await apiBench(t, store, clock);
    t.same((await operator.get('/handoffs')).body, { handoffs: [] }, 'nothing is known of any');
    const counted = { failures: 2, successes: 7, since: clock.now() - 60_000, set_by: 'saga' };
    await store.transaction((tx) =>
      tx
        .insertInto('model_handoffs')
        .values({ model: 'R650', firmware: 'uefi', handoff: 'reset', ...counted })
        .execute(),
    );
    const remembered = { model: 'R650', firmware: 'uefi', handoff: 'reset', failures: 2, successes: 7, setBy: 'saga' };
    const since = new Date(clock.now() - 60_000).toISOString();
    t.same((await operator.get('/handoffs')).body, { handoffs: [{ ...remembered, since }] });

    const decided = await operator.post('/handoffs', { model: 'R650', firmware: 'uefi', handoff: 'kexec' });
    const now = new Date(clock.now()).toISOString();
    t.match(decided.body, { handoffs: [{ handoff: 'kexec', failures: 0, successes: 7, since: now, setBy: /^key_/ }] });
    const other = await operator.post('/handoffs', { model: 'R650', firmware: 'bios', handoff: 'reset' });
    t.match(other.body, {
      handoffs: [
        { firmware: 'bios', handoff: 'reset' },
        { firmware: 'uefi', handoff: 'kexec' },
      ],
    });
    await sequence();
    const { entries } = (await operator.get('/audit')).body as { entries: { what: string }[] };
    t.equal(entries.filter(({ what }) => what === 'model.handoff-changed').length, 2, 'both are in the audit trail');
  },
);

eachStore('what is no handoff of a model is named, and changes nothing', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { operator } = bench;
  const set = { model: 'R650', firmware: 'uefi', handoff: 'kexec' };
  t.same(complaints(await operator.post('/handoffs', { ...set, model: '', handoff: 'jump' })), ['/handoff', '/model']);
  t.same(complaints(await operator.post('/handoffs', { ...set, failures: 0 })), ['/failures']);
  const { member } = await bench.tenant('acme');
  t.equal(codeOf(await member.get('/handoffs')), 'auth.forbidden');
  t.equal(codeOf(await member.post('/handoffs', set)), 'auth.forbidden');
  t.same((await operator.get('/handoffs')).body, { handoffs: [] });
});
