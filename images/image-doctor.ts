import type { Finding } from '../appliance/store/doctor.ts';
import type { Reader } from '../appliance/store/store.ts';
import type { ChunkDirectory } from './chunk-directory.ts';

/**
 * What must be in the image directory for every image that can be ordered. Chunks are looked for by their length; their
 * digests are held against their names when they are read to be sent.
 */
export async function examineImages(read: Reader, directory: ChunkDirectory): Promise<Finding[]> {
  const images = await read
    .selectFrom('images')
    .select(['name', 'version', 'sha256'])
    .where('deleted_at', 'is', null)
    .execute();
  const findings: Finding[] = [];
  for (const { name, version, sha256 } of images) {
    const subjects = await chunksMissing(directory, sha256);
    findings.push(...subjects.map((subject) => ({ invariant: INVARIANT, subject: `${name}:${version}, ${subject}` })));
  }
  return findings;
}

/** How many invariants `examineImages` knows. */
export const IMAGE_INVARIANTS = 1;

const INVARIANT = 'an image is stored whole';

async function chunksMissing(directory: ChunkDirectory, digest: string): Promise<string[]> {
  const read = await directory.map(digest).catch(() => 'damaged' as const);
  if (read === undefined || read === 'damaged') return [`map ${digest} ${read ?? 'missing'}`];
  const missing = new Set<string>();
  for (const segment of read.map.segments) {
    if (segment.kind !== 'chunk') continue;
    if ((await directory.chunkBytes(segment.sha256)) !== segment.length) missing.add(`chunk ${segment.sha256}`);
  }
  return [...missing];
}
