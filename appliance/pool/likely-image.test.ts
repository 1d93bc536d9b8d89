import { HOUR } from '../kernel/clock.ts';
import type { ImageRow } from '../store/schema.ts';
import type { Store } from '../store/store.ts';
import { eachStore } from '../store/test-stores.ts';
import { likelyImage } from './likely-image.ts';
import { describeRegion, flavorOf, order, rackUp } from './pool.fixture.ts';

const DAY = 24 * HOUR;

eachStore(
  'a machine is likely to be ordered with what its flavor was ordered with most',
  async (t, store, { clock }) => {
    await describeRegion(store, [flavorOf('flv_small'), flavorOf('flv_large', { cores: 64 })]);
    await rackUp(store, 'm_00');
    const now = clock.now();
    const likely = () => likelyImage(store.read, 'm_00', now);
    t.equal(await likely(), undefined, 'nothing was ordered yet');
    await addImage(store, 'img_2', { name: 'fedora', version: '41' });
    await order(store, [now - 3, now - 2], 'flv_small', 'img_1');
    await order(store, [now - 1], 'flv_small', 'img_2');
    t.equal(await likely(), 'img_1', 'twice against once');
    await order(store, [now - 4, now - 5, now - 6], 'flv_large', 'img_2');
    t.equal(await likely(), 'img_1', 'another flavor tells nothing');
    await order(store, [now - 7], 'flv_small', 'img_2');
    t.equal(await likely(), 'img_2', 'of two the one that was ordered last');
  },
);

eachStore(
  'what was ordered is ordered in its newest version, and long ago counts for nothing',
  async (t, store, { clock }) => {
    await describeRegion(store);
    await rackUp(store, 'm_00');
    const now = clock.now();
    const likely = () => likelyImage(store.read, 'm_00', now);
    await order(store, [now - 31 * DAY]);
    t.equal(await likely(), undefined);
    await order(store, [now - DAY]);
    await addImage(store, 'img_2', { version: '13', created_at: 1 });
    t.equal(await likely(), 'img_2');
    await addImage(store, 'img_3', { version: '14', created_at: 2, deprecated_at: 3 });
    await addImage(store, 'img_4', { version: '15', created_at: 3, deleted_at: 4 });
    t.equal(await likely(), 'img_2', 'not what can not be ordered');
  },
);

eachStore("a tenant's own image is never written before there is an order", async (t, store, { clock }) => {
  await describeRegion(store);
  await rackUp(store, 'm_00');
  const now = clock.now();
  await addImage(store, 'img_2', { version: '13', tenant_id: 'ten_1', created_at: 1 });
  await order(store, [now - 1, now - 2], 'flv_small', 'img_2');
  t.equal(await likelyImage(store.read, 'm_00', now), undefined);
  await order(store, [now - 3]);
  t.equal(await likelyImage(store.read, 'm_00', now), 'img_1');
});

async function addImage(store: Store, id: string, change: Partial<ImageRow>): Promise<void> {
  const sizes = { bytes: 1, raw_bytes: 1, map_bytes: 1, root_partition: 1 };
  const image = { id, name: 'debian', version: id, sha256: id, source_sha256: id, ...sizes };
  await store.transaction(async (tx) => {
    await tx
      .insertInto('images')
      .values({ ...image, root_fs: 'ext4', kernel_args: '', created_at: 0, ...change })
      .execute();
  });
}
