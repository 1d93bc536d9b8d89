import { eachStore } from './test-stores.ts';

eachStore(
  'what a transaction wrote can be read after it, and its effects run in order after the commit',
  async (t, store) => {
    const order: string[] = [];
    const result = await store.transaction(async (tx) => {
      await tx.insertInto('tenants').values({ id: 't1', name: 'acme', created_at: 1_767_225_600_000 }).execute();
      tx.afterCommit(() => order.push('first'));
      tx.afterCommit(() => order.push('second'));
      order.push('closure');
      return 'done';
    });
    t.equal(result, 'done');
    t.same(order, ['closure', 'first', 'second']);
    t.same(await store.read.selectFrom('tenants').selectAll().execute(), [
      { id: 't1', name: 'acme', created_at: 1_767_225_600_000 },
    ]);
  },
);
