import type { BlockList } from 'node:net';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { Type } from 'typebox';
import type { Static } from 'typebox';

import type { Millis } from '../appliance/kernel/clock.ts';
import { HOUR } from '../appliance/kernel/clock.ts';
import { RackstartError } from '../appliance/kernel/errors.ts';
import { addressList } from './ingest/public-address.ts';

const Bytes = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });

/** What operators may set of images. */
export const ImagesConfig = Type.Object(
  {
    mostBytes: Type.Optional(
      Type.Integer({ ...Bytes, description: 'Of the disk in an image, and of an image in one body; default: 64 GiB.' }),
    ),
    tenantBytes: Type.Optional(
      Type.Integer({ ...Bytes, description: 'Of the images of one tenant, with those under way; default: 256 GiB.' }),
    ),
    residentBytes: Type.Optional(
      Type.Integer({
        ...Bytes,
        description: 'Of chunks that are kept in memory for who fetches them; default: 256 MiB.',
      }),
    ),
    atOnce: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 64, description: 'Image imports that are worked on; default: 2.' }),
    ),
    uploads: Type.Optional(
      Type.Object(
        {
          mostBytes: Type.Optional(Type.Integer({ ...Bytes, description: 'Of one file; default: 64 GiB.' })),
          lifetime: Type.Optional(
            Type.Integer({
              minimum: 1,
              description: 'Milliseconds until an upload must be completed; default: a day.',
            }),
          ),
        },
        { additionalProperties: false },
      ),
    ),
    imports: Type.Optional(
      Type.Object(
        {
          hosts: Type.Optional(
            Type.Array(Type.String({ pattern: '^[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?$' }), {
              maxItems: 256,
              description:
                'From which images are fetched by https, `example.org` or `example.org:8443`; default: none.',
            }),
          ),
          allowedCidrs: Type.Optional(
            Type.Array(Type.String(), {
              maxItems: 64,
              description: 'Where hosts may be that are not on the internet: a mirror of your own; default: nowhere.',
            }),
          ),
          ca: Type.Optional(
            Type.String({ description: 'File with authorities (PEM) that are believed; default: those of Node.js.' }),
          ),
          mostBytes: Type.Optional(Type.Integer({ ...Bytes, description: 'Of one file; default: 64 GiB.' })),
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false, description: 'Disk images: how many and how large, and from where.' },
);

/** Complete, paths absolute. */
export interface ImageSettings {
  /** Where they lie. */
  readonly directory: string;
  readonly mostBytes: number;
  readonly tenantBytes: number;
  /** Of chunks, kept in memory. */
  readonly residentBytes: number;
  readonly atOnce: number;
  readonly uploads: { readonly mostBytes: number; readonly lifetime: Millis };
  readonly imports: {
    readonly hosts: readonly string[];
    readonly allowed: BlockList;
    readonly ca: string | undefined;
    readonly mostBytes: number;
  };
}

/** `path` makes one absolute. Errors: `config.invalid` naming what is no CIDR. */
export function imageSettings(
  { uploads, imports, ...rest }: Static<typeof ImagesConfig> = {},
  state: string,
  path: (name: string) => string,
): ImageSettings {
  const { hosts = [], allowedCidrs = [], ca, mostBytes = MOST_BYTES } = imports ?? {};
  return {
    directory: join(state, 'images'),
    ...{ mostBytes: MOST_BYTES, tenantBytes: 256 * 1024 ** 3, residentBytes: RESIDENT_BYTES, atOnce: 2, ...rest },
    uploads: { mostBytes: MOST_BYTES, lifetime: 24 * HOUR, ...uploads },
    imports: { hosts, allowed: allowed(allowedCidrs), ca: ca === undefined ? undefined : path(ca), mostBytes },
  };
}

/** Larger than any disk image should be, and small enough that a bomb ends before the disk does. */
const MOST_BYTES = 64 * 1024 ** 3;

/** Two or three images of a cloud, compressed. */
const RESIDENT_BYTES = 256 * 1024 ** 2;

function allowed(cidrs: readonly string[]): BlockList {
  for (const [index, cidr] of cidrs.entries()) {
    const [address = '', length = ''] = cidr.split('/');
    const bits = { 0: -1, 4: 32, 6: 128 }[isIP(address)] ?? -1;
    if (/^\d{1,3}$/.test(length) && Number(length) <= bits) continue;
    const fields = [{ field: `/images/imports/allowedCidrs/${String(index)}`, message: 'must be a CIDR' }];
    throw new RackstartError('config.invalid', `${JSON.stringify(cidr)} is no CIDR.`, { fields });
  }
  return addressList(cidrs);
}
