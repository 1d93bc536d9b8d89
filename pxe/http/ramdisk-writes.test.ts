import { hash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';

import { createIds } from '../../appliance/kernel/ids.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { freeze } from '../../images/freeze.ts';
import { fakeRamdisk } from '../../images/ramdisk/deploy.fixture.ts';
import { writerHere, writerTest as test } from '../../images/ramdisk/writer.fixture.ts';
import { startRig } from './server.fixture.ts';

const MIB = 1024 * 1024;

test('what was frozen is served and written by the ramdisk, bit by bit, on a dirty disk', async (t) => {
  const rig = await startRig(t);
  const ramdisk = fakeRamdisk(t, { realProc: true, programs: await writerHere() });
  const data = Array.from({ length: 5 }, (_, at) => Buffer.alloc(4 * MIB, randomBytes(300_000 + at)));
  const raw = Buffer.concat([...data.slice(0, 2), Buffer.alloc(9 * MIB), ...data.slice(2), randomBytes(5 * 512)]);
  writeFileSync(ramdisk.path('raw'), raw);
  const clock = new ManualClock();
  const signal = new AbortController().signal;
  const frozen = { directory: rig.frozen, clock, ids: createIds(clock), signal, threads: 1 };
  const { digest, mapBytes } = await freeze(ramdisk.path('raw'), frozen);

  const disk = ramdisk.path('disk');
  writeFileSync(disk, Buffer.alloc(raw.length + 4 * MIB, 'dirt'));
  ramdisk.put('sys/block/disk/size', `${(raw.length + 4 * MIB) / 512}\n`);
  ramdisk.put('run/disk', `${disk}\n`);
  const order = {
    verb: 'install',
    generation: 1,
    image_map_url: `${rig.http}/image/${digest}/map`,
    image_map_sha256: digest,
    image_map_bytes: mapBytes,
    chunk_url: `${rig.http}/chunk`,
    image_raw_bytes: raw.length,
  };
  ramdisk.put(
    'run/order',
    Object.entries(order)
      .map(([key, value]) => `${key}=${value}\n`)
      .join(''),
  );
  t.equal(await ramdisk.stage('image'), undefined);
  const written = readFileSync(disk).subarray(0, raw.length);
  t.equal(hash('sha256', written), hash('sha256', raw));
});
