import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync, readdirSync, statSync } from 'node:fs';

import { test } from 'tap';

import { HOUR } from '../../appliance/kernel/clock.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { diskToolsMissing, makeDisk, write } from './disk.fixture.ts';
import type { DiskFormat } from './disk-header.ts';
import { ingest } from './ingest.ts';
import { qemuImg, qemuImgMissing, scratch } from './qemu-img.fixture.ts';
import { sandboxMissing } from './sandbox.fixture.ts';
import { UploadStore } from './upload.ts';

const skip = diskToolsMissing() ?? qemuImgMissing() ?? (await sandboxMissing()) ?? false;
const signal = new AbortController().signal;
const mostBytes = 1024 ** 3;

for (const format of ['raw', 'qcow2', 'vmdk', 'vhdx'] as const) {
  void test(
    `a bootable disk sent as ${format} becomes the raw disk it was, with what is on it`,
    { skip },
    async (t) => {
      const path = scratch(t);
      makeDisk(path('disk'));
      qemuImg('convert', '-f', 'raw', '-O', format, path('disk'), path('image'));
      const disk = await ingest({ file: path('image'), format, rawFile: path('raw'), mostBytes, signal });
      t.match(disk, {
        rawFile: path('raw'),
        bytes: statSync(path('disk')).size,
        description: { firmware: ['bios', 'uefi'], root: { partition: 3, fileSystem: 'ext4' } },
      });
      t.ok(readFileSync(path('raw')).equals(readFileSync(path('disk'))));
    },
  );

  void test(
    `a disk sent as ${format} that no machine would boot from leaves nothing but itself`,
    { skip },
    async (t) => {
      const path = scratch(t);
      makeDisk(path('disk'));
      write(path('disk'), 510, Buffer.alloc(2));
      qemuImg('convert', '-f', 'raw', '-O', format, path('disk'), path('image'));
      const before = readdirSync(path('.'));
      const outcome = ingest({ file: path('image'), format, rawFile: path('raw'), mostBytes, signal });
      await t.rejects(outcome, { code: 'image.not-bootable' });
      t.same(readdirSync(path('.')), before);
    },
  );
}

void test('what was uploaded is taken in, and what is refused is gone with its upload', { skip }, async (t) => {
  const path = scratch(t);
  const clock = new ManualClock();
  const limits = { mostBytes, ownerBytes: mostBytes, ownerUploads: 4, lifetime: HOUR };
  const uploads = new UploadStore({ directory: path('uploads'), clock, ids: createIds(clock), limits });
  makeDisk(path('disk'));
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', path('disk'), path('image'));
  const send = async (format: DiskFormat) => {
    const content = readFileSync(path('image'));
    const sha256 = createHash('sha256').update(content).digest('hex');
    const { id } = await uploads.begin({ owner: 'acme', format, bytes: content.length, sha256 });
    await uploads.append('acme', id, 0, createReadStream(path('image')));
    const rawFile = path(`${format}.disk`);
    return uploads.take('acme', id, (file) => ingest({ file, format, rawFile, mostBytes, signal }), signal);
  };
  t.match(await send('qcow2'), { rawFile: path('qcow2.disk'), header: { format: 'qcow2' } });
  await t.rejects(send('raw'), { code: 'image.format' });
  t.notOk(existsSync(path('raw.disk')));
  t.same(readdirSync(path('uploads')), []);
});
