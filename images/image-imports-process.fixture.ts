import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';

import { createEventLog } from '../appliance/events/event-log.ts';
import { Sequencer } from '../appliance/events/sequencer.ts';
import { systemClock } from '../appliance/kernel/clock.ts';
import { createIds } from '../appliance/kernel/ids.ts';
import { silentLog } from '../appliance/kernel/log.ts';
import { openStore } from '../appliance/store/open.ts';
import { runningImports } from './image-import-records.ts';
import { imageSettings } from './images-config.ts';
import { openImages } from './open-images.ts';

/** `[database] [directory] [disk?]`: what there is goes on, after a disk was sent; each new stage is a line, and so is the end. */
const [, , url = '', directory = '', size] = process.argv;
const clock = systemClock;
const ids = createIds(clock);
const log = silentLog;
const store = await openStore({ url, clock, log });
const events = createEventLog({ store, clock, ids, sequencer: new Sequencer({ store, clock, log }) });
const { imports, uploads } = await openImages(imageSettings(undefined, directory, String), {
  store,
  events,
  clock,
  ids,
  log,
});

if (size !== undefined) {
  const { tinyDisk } = await import('../lab/disk/tiny-disk.ts');
  const disk = tinyDisk(Number(size));
  const sha256 = createHash('sha256').update(disk).digest('hex');
  const image = { tenantId: null, name: 'debian', version: '12', format: 'raw', kernelArgs: '' } as const;
  const { id } = await uploads.begin({ ...image, sha256, bytes: disk.length });
  await uploads.append(undefined, id, 0, Readable.from([disk]));
  await imports.complete(undefined, id, { store, actor: 'key_1', origin: '127.0.0.1' });
  process.stdout.write('begun\n');
}
const ending = new AbortController();
const running = imports.run(ending.signal).catch(() => undefined);
let last = '';
for (;;) {
  const [row] = await imports.list(undefined, 1);
  const stage = row?.state === 'running' ? row.progress.stage : (row?.state ?? 'none');
  if (stage !== last) process.stdout.write(`${stage}\n`);
  last = stage;
  if ((await runningImports(store.read)).length === 0) break;
  await new Promise((resolve) => setImmediate(resolve));
}
ending.abort(new Error('all is done'));
await running;
await store.close();
