import { test } from 'tap';

import { buildOsImage } from './build.ts';
import { BIOS, cacheDirectory, ESP, openImage, ROOT, skip } from './image.fixture.ts';

const plain = { name: 'debian-12', cloudInit: false };

test('an image without cloud-init is small, and what it brings waits for nothing', { skip }, async (t) => {
  const { image, partitions, catFile, lsDirectory } = await openImage(t, plain);
  t.same(
    partitions.map(({ number, type }) => [number, type]),
    [
      [1, BIOS],
      [2, ESP],
      [3, ROOT],
    ],
  );
  t.notMatch(await lsDirectory('/etc'), /\/(resolv\.conf|cloud)\//);
  t.match(await catFile('/etc/fstab'), /^UUID=\S+ \/ ext4 /);

  const again = await buildOsImage({ cacheDirectory, ...plain, progress: () => t.fail('nothing is built') });
  t.same(again, image, 'another build finds it done');
});
