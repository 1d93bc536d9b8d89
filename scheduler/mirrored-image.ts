/** What is known of an image before it is on a disk. */
export interface RootImage {
  readonly rootFs: 'ext4' | 'xfs' | 'btrfs';
  readonly kernelArgs: string;
  /** null where nobody could tell. */
  readonly hasMdadm: boolean | null;
}

/**
 * Why such an image can't have a mirrored root; undefined when nothing is known against it. The ramdisk looks at the rest, and at
 * the same again (`images/ramdisk/mirror.sh`).
 */
export function whyNotMirrored({ rootFs, kernelArgs, hasMdadm }: RootImage): string | undefined {
  if (rootFs === 'btrfs') return 'The root of the image is on btrfs, which is not mirrored by an array.';
  if (/(^| )root=/.test(kernelArgs)) {
    return "The image's kernel arguments name a root of their own, which would be one half of the mirror.";
  }
  if (hasMdadm === false) return 'The image has no mdadm in its initramfs: it would not find a mirrored root.';
  return undefined;
}
