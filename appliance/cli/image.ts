import type { ApiClient } from './client.ts';
import { UsageError } from './failure.ts';
import { facts, megabytes } from './text.ts';

/** An image as the API tells it. */
export interface Image {
  readonly id: string;
  /** Whose it is; null: everyone's. */
  readonly tenant: string | null;
  readonly name: string;
  readonly version: string;
  /** Of the file that was sent. */
  readonly sha256: string;
  readonly sourceFormat: string | null;
  /** Of what is stored. */
  readonly digest: string;
  readonly bytes: number;
  readonly rawBytes: number;
  readonly partitionTable: 'gpt' | 'mbr' | null;
  readonly rootPartition: number;
  readonly rootFs: string;
  readonly createdAt: string;
  readonly deprecatedAt: string | null;
}

export async function listImages(api: ApiClient): Promise<readonly Image[]> {
  return ((await api.get('/images')) as { images: Image[] }).images;
}

/** By id, `name:version`, or a name alone that has one version. Errors: `UsageError` when it is none, or several. */
export async function findImage(api: ApiClient, which: string): Promise<Image> {
  const found = (await listImages(api)).filter(({ id, name, version }) => {
    return which === id || which === name || which === `${name}:${version}`;
  });
  const [image, ...others] = found;
  if (image === undefined)
    throw new UsageError(`There is no image ${which}.`, 'rackstart image list shows what there is.');
  if (others.length === 0) return image;
  const names = found.map(({ id, name, version }) => `${name}:${version} (${id})`).join(', ');
  throw new UsageError(`${which} may be any of ${names}.`, 'Name it by name:version, or by its id.');
}

export function imageFacts(image: Image): string {
  const { id, tenant, name, version, sha256, sourceFormat, digest, bytes, rawBytes } = image;
  const { partitionTable, rootPartition, rootFs, createdAt, deprecatedAt } = image;
  return facts({
    ...{ id, name, version, tenant: tenant ?? 'everyone' },
    file: `${sourceFormat ?? 'raw+zstd'}, SHA-256 ${sha256}`,
    stored: `${megabytes(bytes)} of ${megabytes(rawBytes)} raw`,
    digest,
    disk: `${partitionTable ?? 'unknown table'}, root is partition ${String(rootPartition)} (${rootFs})`,
    ...{ added: createdAt, deprecated: deprecatedAt },
  });
}
