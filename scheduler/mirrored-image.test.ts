import { test } from 'tap';

import type { RootImage } from './mirrored-image.ts';
import { whyNotMirrored } from './mirrored-image.ts';

test('an image is refused for a mirrored root by what is known of it, and by nothing else', async (t) => {
  const image: RootImage = { rootFs: 'ext4', kernelArgs: 'console=ttyS0,115200 quiet', hasMdadm: true };
  for (const [change, why] of [
    [{}, undefined],
    [{ rootFs: 'xfs', hasMdadm: null }, undefined],
    [{ kernelArgs: 'rootflags=noatime notroot=/dev/sda1' }, undefined],
    [{ rootFs: 'btrfs' }, /on btrfs/],
    [{ kernelArgs: 'root=/dev/sda1 quiet' }, /root of their own/],
    [{ kernelArgs: 'quiet root=/dev/sda1' }, /root of their own/],
    [{ hasMdadm: false }, /no mdadm/],
  ] as const) {
    const told = whyNotMirrored({ ...image, ...change });
    if (why === undefined) t.equal(told, undefined, JSON.stringify(change));
    else t.match(told, why, JSON.stringify(change));
  }
});
