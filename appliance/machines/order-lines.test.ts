import { test } from 'tap';

import type { Boot } from './boot-records.ts';
import type { InstallPlan } from './install-plan.ts';
import { orderLines } from './order-lines.ts';

const boot = { generation: 7, order: { verb: 'install' } } as Boot;
const sha256 = 'ab'.repeat(32);
const whole = { sha256, bytes: 100, rawBytes: 1024, rootPartition: 3, rootFs: 'ext4', kernelArgs: 'quiet' } as const;
const lines = (image: InstallPlan['image']) =>
  orderLines(boot, { image, disk: { minBytes: 5 }, files: [] }, 'http://10.0.0.1:8080/images');

test('a frozen image is ordered by its map and where its chunks are, any other by its one file', async (t) => {
  const common = {
    verb: 'install',
    generation: '7',
    image_raw_bytes: '1024',
    root_partition: '3',
    root_fs: 'ext4',
    kernel_args: 'quiet',
    disk_min_bytes: '5',
  };
  t.strictSame(lines({ ...whole, mapBytes: 331 }), {
    ...common,
    image_map_url: `http://10.0.0.1:8080/image/${sha256}/map`,
    image_map_sha256: sha256,
    image_map_bytes: '331',
    chunk_url: 'http://10.0.0.1:8080/chunk',
  });
  t.strictSame(lines(whole), {
    ...common,
    image_url: `http://10.0.0.1:8080/images/${sha256}`,
    image_sha256: sha256,
    image_bytes: '100',
  });
});

test('a value that is no line is never part of an order', async (t) => {
  t.throws(() => lines({ ...whole, kernelArgs: 'quiet\nverb=wipe' }), { code: 'internal' });
});
