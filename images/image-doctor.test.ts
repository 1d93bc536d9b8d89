import { rmSync, truncateSync } from 'node:fs';

import { eachStore } from '../appliance/store/test-stores.ts';
import { addImage, openChunks } from './chunks.fixture.ts';
import { examineImages } from './image-doctor.ts';

eachStore('an image whose map or chunks are missing, short or changed is found', async (t, store) => {
  const chunks = openChunks(t);
  const { directory } = chunks;
  const [a, b] = [
    addImage(chunks, [Buffer.from('a'), 4096 * 1024]),
    addImage(chunks, [Buffer.from('b1'), Buffer.from('b2')]),
  ];
  const sizes = { bytes: 1, raw_bytes: 1, map_bytes: 1 };
  const common = { source_sha256: 'ab', root_partition: 3, root_fs: 'ext4', kernel_args: '', created_at: 0 } as const;
  await store.transaction(async (tx) => {
    for (const [version, sha256] of [
      ['1', a.digest],
      ['2', b.digest],
    ] as const) {
      const row = { id: version, name: 'debian', version, sha256, ...sizes, ...common };
      await tx.insertInto('images').values(row).execute();
    }
  });
  const found = async () => (await examineImages(store.read, directory)).map(({ subject }) => subject);
  t.same(await found(), [], 'they are whole');

  const [b1, b2] = b.map.segments.map((segment) => ('sha256' in segment ? segment.sha256 : ''));
  rmSync(directory.chunkFile(b1!));
  truncateSync(directory.chunkFile(b2!), 1);
  t.same(await found(), [`debian:2, chunk ${b1!}`, `debian:2, chunk ${b2!}`]);

  truncateSync(directory.mapFile(a.digest), 10);
  rmSync(directory.mapFile(b.digest));
  t.same(await found(), [`debian:1, map ${a.digest} damaged`, `debian:2, map ${b.digest} missing`]);
});
