import { existsSync, truncateSync, utimesSync } from 'node:fs';

import { HOUR } from '../appliance/kernel/clock.ts';
import { silentLog } from '../appliance/kernel/log.ts';
import { eachStore } from '../appliance/store/test-stores.ts';
import { addImage, openChunks } from './chunks.fixture.ts';
import { GRACE } from './collect.ts';
import { ImageCollection } from './image-collection.ts';

eachStore(
  'every hour what no image needs goes; a map that is damaged stops nothing but that',
  async (t, store, { clock }) => {
    const chunks = openChunks(t);
    const { directory } = chunks;
    const [kept, gone] = [addImage(chunks, [Buffer.from('kept')]), addImage(chunks, [Buffer.from('gone')])];
    const row = { name: 'debian', version: '1', bytes: 1, raw_bytes: 1, map_bytes: 1, root_partition: 3 } as const;
    const rest = {
      id: 'img_1',
      sha256: kept.digest,
      source_sha256: 'ab',
      root_fs: 'ext4',
      kernel_args: '',
      created_at: 0,
    } as const;
    await store.transaction((tx) =>
      tx
        .insertInto('images')
        .values({ ...row, ...rest })
        .execute(),
    );
    for (const { digest } of [kept, gone]) {
      const at = (clock.now() - GRACE - 1) / 1000;
      utimesSync(directory.mapFile(digest), at, at);
    }
    const stopping = new AbortController();
    const collection = new ImageCollection({ store, directory, clock, log: silentLog });
    const running = collection.run(stopping.signal);
    const rests = () => clock.nextWake() !== undefined;
    const rested = async () => {
      while (!rests()) await new Promise(setImmediate);
    };
    await rested();
    t.notOk(existsSync(directory.mapFile(gone.digest)));
    t.ok(existsSync(directory.mapFile(kept.digest)));

    truncateSync(directory.mapFile(kept.digest), 10);
    await clock.advance(HOUR);
    await rested();
    stopping.abort();
    await t.rejects(running, 'it ends when it is told to, and not before');
  },
);
