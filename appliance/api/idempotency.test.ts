import { MINUTE } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Store, Tx } from '../store/store.ts';
import { eachStore } from '../store/test-stores.ts';
import type { Answer, ApiBench } from './api.fixture.ts';
import { Caller, apiBench, codeOf, described, order } from './api.fixture.ts';
import { ANSWERS_KEPT } from './remembered-answers.ts';

const once = { 'idempotency-key': 'k-1' };
const BMC = { address: '10.0.0.1', username: 'admin', password: 'hunter2hunter2' };
const NICS = [{ mac: '52:54:00:00:00:01', role: 'both' }];

eachStore('a POST repeated under its Idempotency-Key is done once and answered as at first', async (t, store, c) => {
  const { operator } = await apiBench(t, store, c.clock);
  const first = await operator.post('/regions', { name: 'west' }, once);
  t.equal(first.status, 201);
  t.notOk(first.headers['idempotent-replayed']);
  const again = await operator.post('/regions', { name: 'west' }, once);
  t.match(again, { status: 201, text: first.text, headers: { 'idempotent-replayed': 'true' } });
  t.equal(again.headers['content-type'], first.headers['content-type']);
  t.equal(await count(store, 'regions'), 1);

  t.match(await operator.post('/racks', { name: 'west', region: idOf(first) }, once), { status: 201 });
  const other = await operator.post('/regions', { name: 'west' }, { 'idempotency-key': 'k-2' });
  t.equal(codeOf(other), 'request.invalid', 'under another key it is another request');
});

eachStore('names in another order are the same request, another value is refused', async (t, store, { clock }) => {
  const { operator } = await apiBench(t, store, clock);
  const flavor = { name: 'small', cores: 2, memoryMib: 1024, diskGib: 10, nics: 'same' };
  const turned = Object.fromEntries(Object.entries(flavor).reverse());
  const first = await operator.post('/flavors', flavor, once);
  t.equal((await operator.post('/flavors', turned, once)).text, first.text);
  const changed = await operator.post('/flavors', { ...flavor, cores: 3 }, once);
  t.match(changed, { status: 422, body: { error: { code: 'idempotency.reused' } } });
  t.equal(await count(store, 'flavors'), 1);
});

eachStore('the same key on another id is another request under the same key', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const [one, two] = [await enrolled(bench, store, 1), await machine(bench, 2)];
  await settled(store);
  t.equal((await bench.operator.post(`/machines/${one}/inspect`, undefined, once)).status, 202);
  t.equal(codeOf(await bench.operator.post(`/machines/${two}/inspect`, undefined, once)), 'idempotency.reused');
});

eachStore('twenty repeats at once are one effect and one answer', async (t, store, { clock }) => {
  const { operator } = await apiBench(t, store, clock);
  const answers = await Promise.all(Array.from({ length: 20 }, () => operator.post('/api-keys', { name: 'ci' }, once)));
  t.same([...new Set(answers.map(({ status }) => status))], [201]);
  t.equal(new Set(answers.map(({ text }) => text)).size, 1);
  t.equal(answers.filter(({ headers }) => headers['idempotent-replayed'] === 'true').length, 19);
  t.equal(await count(store, 'api_keys'), 2, 'the operator and one more');
});

eachStore('two processes do it once: who comes second is told to come again', async (t, store, { clock }) => {
  // Two APIs over one database know nothing of each other's turns.
  const [a, b] = [await apiBench(t, store, clock), await apiBench(t, store, clock)];
  const callers = [a.operator, new Caller(b.app, a.operator.key)];
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, index) => callers[index % 2]!.post('/regions', { name: 'west' }, once)),
  );
  t.equal(await count(store, 'regions'), 1);
  const codes = new Set(answers.map((answer) => (answer.status === 201 ? answer.text : codeOf(answer))));
  codes.delete('idempotency.in-progress');
  t.equal(codes.size, 1, [...codes].join());
  for (const { status, headers } of answers) if (status === 409) t.equal(headers['retry-after'], '1');
  for (const caller of callers) t.equal((await caller.post('/regions', { name: 'west' }, once)).status, 201);
});

eachStore('keys are of one caller: another with the same key has its own answer', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { key } = (await bench.operator.post('/api-keys', { name: 'second' })).body as { key: string };
  const second = new Caller(bench.app, key);
  t.equal((await bench.operator.post('/regions', { name: 'west' }, once)).status, 201);
  const theirs = await second.post('/regions', { name: 'east' }, once);
  t.equal(theirs.status, 201);
  t.notOk(theirs.headers['idempotent-replayed']);
});

eachStore('answers live through a restart, and for a day', async (t, store, { clock }) => {
  const before = await apiBench(t, store, clock);
  const first = await before.operator.post('/regions', { name: 'west' }, once);
  const after = await apiBench(t, store, clock);
  const operator = new Caller(after.app, before.operator.key);
  await clock.advance(ANSWERS_KEPT - 1);
  t.equal((await operator.post('/regions', { name: 'west' }, once)).text, first.text);
  await clock.advance(1);
  t.equal(codeOf(await operator.post('/regions', { name: 'west' }, once)), 'request.invalid', 'the name is taken');
  t.equal(await count(store, 'idempotency_keys'), 1, 'the old one is gone');
  await operator.post('/regions', { name: 'east' }, { 'idempotency-key': 'k-2' });
  await clock.advance(ANSWERS_KEPT);
  await operator.post('/regions', { name: 'north' }, { 'idempotency-key': 'k-3' });
  t.equal(await count(store, 'idempotency_keys'), 1, 'whoever comes takes old ones away');
});

eachStore('a crash before the commit leaves nothing, and the repeat does it', async (t, store, { clock }) => {
  const crash = crashing(store, 'before commit');
  const bench = await apiBench(t, crash.store, clock);
  crash.next();
  t.equal((await bench.operator.post('/regions', { name: 'west' }, once)).status, 503);
  t.equal(await count(store, 'regions'), 0);
  t.equal((await bench.operator.post('/regions', { name: 'west' }, once)).status, 201);
});

eachStore('a crash behind the commit does nothing twice, and the repeat is told', async (t, store, { clock }) => {
  const crash = crashing(store, 'after commit');
  const bench = await apiBench(t, crash.store, clock);
  crash.next();
  t.equal((await bench.operator.post('/regions', { name: 'west' }, once)).status, 503);
  t.equal(await count(store, 'regions'), 1);
  const soon = await bench.operator.post('/regions', { name: 'west' }, once);
  t.match(soon, { status: 409, headers: { 'retry-after': '1' } });
  t.equal(codeOf(soon), 'idempotency.in-progress', 'it may be at work in another process');
  await clock.advance(2 * MINUTE);
  const later = await bench.operator.post('/regions', { name: 'west' }, once);
  t.equal(codeOf(later), 'idempotency.unknown-outcome');
  t.equal(await count(store, 'regions'), 1);
});

eachStore('what acts outside is not done again when nobody knows how it ended', async (t, store, { clock }) => {
  const crash = crashing(store, 'after commit');
  const bench = await apiBench(t, crash.store, clock);
  const id = await enrolled(bench, store, 1);
  await settled(store);
  const reset = () => bench.operator.post(`/machines/${id}/power`, { want: 'reset' }, once);
  t.match(await reset(), { status: 200, body: { power: 'on' } });
  t.match(await reset(), { status: 200, headers: { 'idempotent-replayed': 'true' } });
  t.same(bench.commands, ['10.0.0.1 reset']);

  // That it begins is committed before the BMC is asked: nobody knows how much of the rest came to be.
  crash.next();
  const off = () => bench.operator.post(`/machines/${id}/power`, { want: 'off' }, { 'idempotency-key': 'k-2' });
  t.equal((await off()).status, 503);
  await clock.advance(2 * MINUTE);
  t.equal(codeOf(await off()), 'idempotency.unknown-outcome');
  t.same(bench.commands, ['10.0.0.1 reset']);
});

eachStore('refusals are remembered, but for those that pass and those of the form', async (t, store, { clock }) => {
  const crash = crashing(store, 'before commit');
  const bench = await apiBench(t, crash.store, clock);
  const id = await enrolled(bench, store, 1);
  const reset = () => bench.operator.post(`/machines/${id}/power`, { want: 'reset' }, once);
  t.equal(codeOf(await reset()), 'state.conflict', 'it is being inspected');
  await settled(store);
  t.match(await reset(), { status: 409, headers: { 'idempotent-replayed': 'true' } });
  t.equal(codeOf(await bench.operator.post('/regions', { name: 'WEST' }, once)), 'request.invalid');
  t.equal((await bench.operator.post('/regions', { name: 'east' }, once)).status, 201, 'the form was corrected');
});

eachStore('no answer lies in the database in clear, and none opens for another key', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const issued = await bench.operator.post('/api-keys', { name: 'ci' }, once);
  await described(bench, store);
  const rack = (await store.read.selectFrom('racks').select('id').executeTakeFirstOrThrow()).id;
  await bench.operator.post('/machines', { name: 'm1', rack, bmc: BMC, nics: NICS }, once);
  const { key } = issued.body as { key: string };
  const rows = await store.read.selectFrom('idempotency_keys').selectAll().execute();
  t.equal(rows.length, 2);
  t.notMatch(JSON.stringify(rows), key);
  t.notMatch(JSON.stringify(rows), BMC.password);

  // Moved to another use of the same caller, as somebody who can write the database might.
  const answer = rows.find(({ route }) => route.endsWith('/api-keys'))?.answer ?? null;
  await bench.operator.post('/regions', { name: 'east' }, once);
  await store.transaction((tx) =>
    tx.updateTable('idempotency_keys').set({ answer }).where('route', 'like', '%/regions').execute(),
  );
  t.equal(codeOf(await bench.operator.post('/regions', { name: 'east' }, once)), 'idempotency.unknown-outcome');
});

eachStore('every documented POST takes the header, and refuses one that is none', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const document = (await bench.app.inject({ url: '/docs/json' })).json<OpenApi>();
  let posts = 0;
  for (const [path, { post }] of Object.entries(document.paths)) {
    if (post === undefined) continue;
    posts++;
    const headers = (post.parameters ?? []).filter((known) => known.in === 'header').map(({ name }) => name);
    t.same(headers, ['idempotency-key'], path);
  }
  t.ok(posts > 10, `${posts} routes`);
  const long = await bench.operator.post('/regions', { name: 'west' }, { 'idempotency-key': 'x'.repeat(256) });
  t.match(long, { status: 400, body: { error: { fields: [{ field: '/headers/idempotency-key' }] } } });
});

eachStore(
  'an order keeps its own promise: the same server, for as long as there is one',
  async (t, store, { clock }) => {
    const bench = await apiBench(t, store, clock);
    await described(bench, store);
    const { member } = await bench.tenant('acme');
    const first = await member.post('/servers', order(), once);
    t.equal(first.status, 202);
    await clock.advance(2 * ANSWERS_KEPT);
    t.equal(idOf(await member.post('/servers', order(), once)), idOf(first));
  },
);

interface OpenApi {
  paths: Record<string, { post?: { parameters?: { name: string; in: string }[] } }>;
}

function idOf({ body }: Answer): string {
  return (body as { id: string }).id;
}

async function count(store: Store, table: 'regions' | 'flavors' | 'api_keys' | 'idempotency_keys'): Promise<number> {
  return (await store.read.selectFrom(table).selectAll().execute()).length;
}

async function enrolled(bench: ApiBench, store: Store, number: number): Promise<string> {
  await described(bench, store);
  return machine(bench, number);
}

async function machine({ operator }: ApiBench, number: number): Promise<string> {
  const { racks } = (await operator.get('/racks')).body as { racks: [{ id: string }] };
  const nics = [{ mac: `52:54:00:00:00:0${number}`, role: 'both' }];
  const rack = racks[0].id;
  return idOf(await operator.post('/machines', { name: `m${number}`, rack, bmc: BMC, nics }));
}

/** Nobody works on machines here: as if their inspections had ended. */
async function settled(store: Store): Promise<void> {
  await store.transaction(async (tx) => {
    await tx.updateTable('machines').set({ state: 'available' }).execute();
    await tx.updateTable('sagas').set({ state: 'completed', wake_at: null, ended_at: 0 }).execute();
  });
}

/** A store whose next transaction fails as if the process died, with what it did or without. */
function crashing(store: Store, where: 'before commit' | 'after commit'): { store: Store; next(): void } {
  let due = false;
  const died = () => new RackstartError('store.unavailable', 'died');
  return {
    next: () => (due = true),
    store: {
      dialect: store.dialect,
      read: store.read,
      close: () => store.close(),
      async transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
        const crashes = due;
        due = false;
        const result = await store.transaction(async (tx) => {
          const done = await work(tx);
          if (crashes && where === 'before commit') throw died();
          return done;
        });
        if (crashes) throw died();
        return result;
      },
    },
  };
}
