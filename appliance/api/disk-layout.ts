import { Type } from 'typebox';
import type { Static } from 'typebox';

import type { DiskLayout, RootDisk } from '../../scheduler/disk-plan.ts';
import { strict } from './schemas.ts';
import { invalid } from './unique.ts';

const Bytes = Type.Integer({ minimum: 0, maximum: 2 ** 50 - 1 });

/** Of any machine of a flavor: a serial number would be one machine's. */
const Disk = Type.Object(
  {
    minBytes: Type.Optional(Bytes),
    maxBytes: Type.Optional(Bytes),
    type: Type.Optional(Type.Union([Type.Literal('nvme'), Type.Literal('ssd'), Type.Literal('hdd')])),
  },
  strict,
);

const Root = Type.Object(
  {
    ...Disk.properties,
    mirror: Type.Optional({
      ...Disk,
      description:
        'A second disk with the same root and boot code. The image must bring mdadm; its root is ext4 or XFS.',
    }),
  },
  strict,
);

// Where an image keeps nothing that starting needs: an empty file system over /usr or /var is no server any more.
const MountPoint = Type.String({
  maxLength: 200,
  pattern: '^/(data|home|mnt|opt|srv|var/lib/[a-z0-9][a-z0-9._-]{0,63})(/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){0,5}$',
  description: 'Below /data, /home, /mnt, /opt, /srv, or a directory of its own in /var/lib.',
});

const DataDisk = Type.Object(
  {
    fs: Type.Union([Type.Literal('ext4'), Type.Literal('xfs')]),
    // What an XFS superblock has room for; ext4 has 16.
    label: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,11}$' }),
    mount: MountPoint,
    disk: Disk,
  },
  strict,
);

/** What becomes of the disks of servers of a flavor. */
export const DiskLayoutBody = Type.Object(
  {
    root: Type.Optional(Root),
    data: Type.Optional(Type.Array(DataDisk, { maxItems: 9 })),
    swapMib: Type.Optional(Type.Integer({ minimum: 1, maximum: 2 ** 20, description: 'Of a swap file on the root.' })),
  },
  {
    ...strict,
    description:
      "Every rule must match just one disk that has no other use, root and mirror together two; of the root, on which the image is, the machine's own rule holds as well.",
  },
);

/** Errors: `request.invalid` for two disks at one place or of one name. */
export function checkedLayout({ root, data = [], swapMib }: Static<typeof DiskLayoutBody>): DiskLayout {
  for (const field of ['mount', 'label'] as const) {
    const values = data.map((disk) => disk[field]);
    const twice = values.findIndex((value, index) => values.indexOf(value) !== index);
    if (twice >= 0) throw invalid(`/layout/data/${String(twice)}/${field}`, 'Another data disk has this one.');
  }
  return {
    ...(root === undefined ? {} : { root: checkedRoot(root) }),
    data: data.map(({ disk, ...use }) => ({ ...use, disk: { minBytes: 0, ...disk } })),
    ...(swapMib === undefined ? {} : { swapMib }),
  };
}

function checkedRoot({ mirror, ...root }: Static<typeof Root>): RootDisk {
  return { minBytes: 0, ...root, ...(mirror === undefined ? {} : { mirror: { minBytes: 0, ...mirror } }) };
}
