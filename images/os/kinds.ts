/** How an image is laid out, and what is done to the tree it is made from. */
export interface ImageKind {
  /** Beside those that every image has. */
  readonly packages: readonly string[];
  /** Numbers in the partition table. On the disk they follow each other as written here; the root comes last, so that it can grow. */
  readonly partitions: {
    readonly bios: { readonly number: number; readonly mebibytes: number };
    readonly esp: { readonly number: number; readonly mebibytes: number };
    readonly root: { readonly number: number };
  };
  /** Scripts in this directory, hooks of mmdebstrap in this order. */
  readonly hooks: readonly { readonly at: 'essential' | 'customize'; readonly script: string }[];
}

/** Little, and quick to start: what makes it a server comes from us alone, and user data is nobody's to read. */
export const plainImage: ImageKind = {
  packages: [],
  partitions: { bios: { number: 1, mebibytes: 1 }, esp: { number: 2, mebibytes: 16 }, root: { number: 3 } },
  hooks: [
    { at: 'essential', script: 'initrd.sh' },
    { at: 'customize', script: 'customize.sh' },
    { at: 'customize', script: 'plain.sh' },
  ],
};

/**
 * What Debian's own cloud images are to us: cloud-init, which looks for its data everywhere; netplan and systemd-resolved; an
 * initrd for any machine; their partitions, to the sector (debian-cloud-images, hooks/partition.AMD64); file systems mounted
 * by PARTUUID; and mdadm, so that its root can be mirrored. All of it is built as the plain one is, so that it needs no other sources.
 */
export const cloudImage: ImageKind = {
  packages: [
    'cloud-guest-utils',
    'cloud-init',
    'cloud-initramfs-growroot',
    'libpam-systemd',
    'mdadm',
    'netplan.io',
    'sudo',
    'systemd-resolved',
    'systemd-timesyncd',
  ],
  partitions: { bios: { number: 14, mebibytes: 3 }, esp: { number: 15, mebibytes: 124 }, root: { number: 1 } },
  hooks: [
    { at: 'customize', script: 'customize.sh' },
    { at: 'customize', script: 'cloud.sh' },
  ],
};
