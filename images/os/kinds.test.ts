import { test } from 'tap';

import { BIOS, ESP, openImage, ROOT, skip } from './image.fixture.ts';

const cloud = { name: 'debian-12-cloud', cloudInit: true };

test('an image with cloud-init is laid out as Debian’s own cloud images are', { skip }, async (t) => {
  const { partitions, catFile, lsDirectory } = await openImage(t, cloud);
  t.same(
    partitions.map(({ number, start, type }) => [number, start, type]),
    [
      [14, 2048, BIOS],
      [15, 8192, ESP],
      [1, 262_144, ROOT],
    ],
  );
  const [, esp, root] = partitions;
  t.match(await catFile('/etc/fstab'), `PARTUUID=${root?.uuid.toLowerCase() ?? ''} / ext4`);
  t.match(await catFile('/etc/fstab'), `PARTUUID=${esp?.uuid.toLowerCase() ?? ''} /boot/efi vfat`);
  t.notMatch(await catFile('/etc/cloud/cloud.cfg'), /^datasource_list/m, 'it looks everywhere for its data');
  t.match(await lsDirectory('/etc/systemd/system/cloud-init.target.wants'), /cloud-final\.service/);
  t.notMatch(await lsDirectory('/var/lib/cloud'), /\/(instances?|seed)\//, 'it has never run, and brings no data');
  t.match(await lsDirectory('/usr/sbin'), /\/netplan\//);
});
