import { readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { zstdCompressSync } from 'node:zlib';

import { test } from 'tap';

import { diskToolsMissing, makeDisk, write } from './disk.fixture.ts';
import { ingest } from './ingest.ts';
import { qemuImg, qemuImgMissing, scratch } from './qemu-img.fixture.ts';
import { sandboxMissing } from './sandbox.fixture.ts';

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

void test(
  'a raw disk compressed with zstd becomes the raw disk it was; what is compressed must be one',
  { skip },
  async (t) => {
    const path = scratch(t);
    makeDisk(path('disk'));
    const told: string[] = [];
    const take = (name: string) =>
      ingest({
        ...{ file: path(name), format: 'raw+zstd', rawFile: path('raw'), mostBytes, signal },
        progress: (stage, done, of) => {
          if (done <= of) told.push(stage);
        },
      });
    writeFileSync(path('zst'), zstdCompressSync(readFileSync(path('disk'))));
    t.match(await take('zst'), { description: { root: { partition: 3 } } });
    t.ok(readFileSync(path('raw')).equals(readFileSync(path('disk'))));
    t.same(new Set(told), new Set(['converting', 'inspecting']));
    rmSync(path('raw'));
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', path('disk'), path('qcow2'));
    writeFileSync(path('zst2'), zstdCompressSync(readFileSync(path('qcow2'))));
    const before = readdirSync(path('.'));
    await t.rejects(take('zst2'), { code: 'image.format' });
    await t.rejects(take('qcow2'), { code: 'image.invalid' });
    t.same(readdirSync(path('.')), before);
  },
);
