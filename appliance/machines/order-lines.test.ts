import { test } from 'tap';

import type { DiskLayout } from '../../scheduler/disk-plan.ts';
import type { Boot } from './boot-records.ts';
import type { InstallPlan } from './install-plan.ts';
import { orderLines } from './order-lines.ts';

const boot = { generation: 7, watchdog: null, order: { verb: 'install' } } as Boot;
const GIB = 1024 ** 3;
const from = { imagesUrl: 'http://10.0.0.1:8080', wipeSeed: '07'.repeat(16) };
const sha256 = 'ab'.repeat(32);
const disk = { rawBytes: 1024, rootPartition: 3, rootFs: 'ext4', kernelArgs: 'quiet' } as const;
const image = { sha256, mapBytes: 331, ...disk };
const lines = (ordered: InstallPlan['image']) =>
  orderLines(boot, { plan: { image: ordered, disk: { minBytes: 5 }, files: [] }, ...from });

test('an image is ordered by its map and where its chunks are', async (t) => {
  t.strictSame(lines(image), {
    verb: 'install',
    generation: '7',
    image_raw_bytes: '1024',
    root_partition: '3',
    root_fs: 'ext4',
    kernel_args: 'quiet',
    disk_min_bytes: '5',
    image_map_url: `http://10.0.0.1:8080/image/${sha256}/map`,
    image_map_sha256: sha256,
    image_map_bytes: '331',
    chunk_url: 'http://10.0.0.1:8080/chunk',
  });
});

test('whoever is to check a machine is told how much of its memory', async (t) => {
  for (const verb of ['inspect', 'wait'] as const) {
    const boot = { generation: 7, order: { verb } } as Boot;
    t.strictSame(orderLines(boot, from), { verb, generation: '7', check_memory_mib: '1024' });
  }
});

test('one that waits is told what to write meanwhile, and where, as an install of it will be', async (t) => {
  const wait = { generation: 6, order: { verb: 'wait' } } as Boot;
  const ahead = { image, disk: { minBytes: 5 } };
  const { verb: _, generation: __, check_memory_mib: ___, ...written } = orderLines(wait, { ahead, ...from });
  t.strictSame(Object.keys(written).length, 6);
  t.match(lines(image), written);
});

test('an install alone is told of a watchdog, in seconds', async (t) => {
  const watched = { ...boot, watchdog: 60_000 };
  t.match(orderLines(watched, { plan: { image, disk: { minBytes: 5 }, files: [] }, ...from }), { watchdog: '60' });
  t.notOk('watchdog' in orderLines({ ...watched, order: { ...boot.order, verb: 'wait' } }, from));
});

test('a wipe is told where to read back', async (t) => {
  const wipe = { generation: 7, order: { verb: 'wipe' } } as Boot;
  t.strictSame(orderLines(wipe, from), { verb: 'wipe', generation: '7', wipe_seed: '07'.repeat(16) });
});

test('each disk of a layout is ordered by a rule of its own, with what becomes of it', async (t) => {
  const layout: DiskLayout = {
    root: { minBytes: 7, type: 'nvme', mirror: { minBytes: 8, type: 'ssd' } },
    data: [{ disk: { minBytes: 9 * GIB, maxBytes: 10 * GIB }, mount: '/srv', fs: 'xfs', label: 'srv' }],
    swapMib: 512,
  };
  const plan = { image, disk: { minBytes: 5, serial: 'S 1' }, layout, files: [] };
  t.match(orderLines(boot, { plan, ...from }), {
    disk_min_bytes: '7',
    disk_serial: 'S 1',
    disk_type: 'nvme',
    mirror_min_bytes: '8',
    mirror_type: 'ssd',
    data_disks: '1',
    data1_min_bytes: String(9 * GIB),
    data1_max_bytes: String(10 * GIB),
    data1_fs: 'xfs',
    data1_label: 'srv',
    data1_mount: '/srv',
    swap_mib: '512',
  });
  const impossible = { ...plan, disk: { minBytes: 0, type: 'hdd' } as const };
  t.throws(() => orderLines(boot, { plan: impossible, ...from }), { code: 'internal' });
});

test('a value that is no line is never part of an order', async (t) => {
  t.throws(() => lines({ ...image, kernelArgs: 'quiet\nverb=wipe' }), { code: 'internal' });
});
