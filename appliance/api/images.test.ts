import type { ManualClock } from '../kernel/manual-clock.ts';
import type { Store } from '../store/store.ts';
import { eachStore } from '../store/test-stores.ts';
import type { ApiBench } from './api.fixture.ts';
import { apiBench, codeOf, complaints, described, order } from './api.fixture.ts';

eachStore(
  'a deprecated image is not ordered anew, and the newest that is not is meant',
  async (t, store, { clock }) => {
    const { operator, member } = await open(t, store, clock);
    const newer = await addImage(store, { version: '13', created_at: 5 });
    const ordered = async (image: string) => {
      const answer = await member.post('/servers', order({ image }));
      return answer.status < 300 ? (answer.body as { image: string }).image : codeOf(answer);
    };
    t.equal(await ordered('debian'), 'debian:13');
    t.equal((await operator.post(`/images/${newer}/deprecate`)).status, 204);
    t.match((await member.get(`/images/${newer}`)).body, { deprecatedAt: String, version: '13' });
    t.equal(await ordered('debian'), 'debian:12');
    t.equal(await ordered('debian:13'), 'image.deprecated');
    await operator.post('/images/img_1/deprecate');
    t.equal(await ordered('debian'), 'image.deprecated');
    await operator.post(`/images/${newer}/undeprecate`);
    t.equal(await ordered('debian'), 'debian:13');
    t.match(
      await member.post(`/images/${newer}/deprecate`),
      { status: 403 },
      'operators alone change what is for everyone',
    );
  },
);

eachStore("a tenant's own image is before everyone's, and does not exist for others", async (t, store, { clock }) => {
  const { bench, member, tenant } = await open(t, store, clock);
  const own = await addImage(store, { version: '12', tenant_id: tenant, created_at: 0 });
  await addImage(store, { name: 'secret', tenant_id: tenant });
  const { member: other } = await bench.tenant('umbrella');
  const image = async (by: typeof member, body: object) => {
    const { body: server, status } = await by.post('/servers', order(body));
    if (status > 299) return complaints({ body: server } as never);
    const { id } = server as { id: string };
    const { image_id } = await store.read
      .selectFrom('requests')
      .select('image_id')
      .where('id', '=', id)
      .executeTakeFirstOrThrow();
    return image_id;
  };
  t.equal(await image(member, { image: 'debian' }), own);
  t.equal(await image(member, { image: 'debian:12' }), own);
  t.equal(await image(other, { image: 'debian:12' }), 'img_1');
  t.same(await image(other, { image: 'secret' }), ['/image']);
  t.equal((await other.get(`/images/${own}`)).status, 404);
  t.equal((await other.delete(`/images/${own}`)).status, 404);
  t.match((await other.get('/images')).body, { images: [{ id: 'img_1', tenant: null }] });
  t.equal(((await member.get('/images')).body as { images: unknown[] }).images.length, 3);
});

eachStore('an image is deleted once no server needs it; then its name is free', async (t, store, { clock }) => {
  const { operator, member } = await open(t, store, clock);
  const { id } = (await member.post('/servers', order())).body as { id: string };
  const refused = await operator.delete('/images/img_1');
  t.match(refused, { status: 409, body: { error: { code: 'state.conflict', details: { servers: 1 } } } });
  await store.transaction((tx) => tx.updateTable('requests').set({ ended_at: 1 }).where('id', '=', id).execute());
  t.equal((await operator.delete('/images/img_1')).status, 204);
  t.equal((await operator.delete('/images/img_1')).status, 404);
  t.same((await operator.get('/images')).body, { images: [] });
  t.same(complaints(await member.post('/servers', order())), ['/image']);
  t.equal((await member.get(`/servers/${id}`)).status, 200, 'what was ordered with it is told as before');
  await addImage(store, { version: '12' });
  t.equal((await member.post('/servers', order())).status, 202);
});

async function open(t: Parameters<typeof apiBench>[0], store: Store, clock: ManualClock) {
  const bench: ApiBench = await apiBench(t, store, clock);
  await described(bench, store);
  const { member, id } = await bench.tenant('acme');
  return { bench, operator: bench.operator, member, tenant: id };
}

async function addImage(
  store: Store,
  row: { name?: string; version?: string; tenant_id?: string; created_at?: number },
): Promise<string> {
  const id = ['img', ...Object.values(row)].join('_');
  const disk = { raw_bytes: 1, map_bytes: 1, root_partition: 1, root_fs: 'xfs', kernel_args: '' } as const;
  const stored = {
    id,
    name: 'debian',
    version: '1',
    sha256: 'cd'.repeat(32),
    bytes: 1,
    created_at: 0,
    ...disk,
    source_sha256: 'ab',
  };
  await store.transaction((tx) =>
    tx
      .insertInto('images')
      .values({ ...stored, ...row })
      .execute(),
  );
  return id;
}
