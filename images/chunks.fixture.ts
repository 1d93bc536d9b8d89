import { hash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import type { Test } from 'tap';

import { ChunkDirectory } from './chunk-directory.ts';
import type { ChunkMap, Part } from './chunk-map.ts';
import { chunkMapDigest, formatChunkMap, frames, layOut } from './chunk-map.ts';
import { CHUNK_BYTES, seekTable, zeroFramesLength, zeroFrame } from './zstd-frames.ts';

/** An image directory that is filled by hand, with chunks that need not be zstd: nothing that serves them looks inside. */
export function openChunks(t: Test): { directory: ChunkDirectory; add: (content: Buffer) => string } {
  const root = mkdtempSync(join(tmpdir(), 'rs-chunks-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  return chunksIn(new ChunkDirectory(root));
}

export function chunksIn(directory: ChunkDirectory): { directory: ChunkDirectory; add: (content: Buffer) => string } {
  const add = (content: Buffer): string => {
    const sha256 = hash('sha256', content);
    write(directory.chunkFile(sha256), content);
    return sha256;
  };
  return { directory, add };
}

/** The image of these chunks; a number stands for so many bytes of zeros. */
export function addImage(
  { directory, add }: ReturnType<typeof openChunks>,
  contents: readonly (Buffer | number)[],
): { digest: string; text: string; map: ChunkMap; whole: Buffer } {
  const parts = contents.map((content): Part => {
    if (typeof content === 'number') return { kind: 'zeros', rawLength: content };
    return { kind: 'chunk', rawLength: CHUNK_BYTES, length: content.length, sha256: add(content) };
  });
  const map = layOut(hash('sha256', 'raw'), parts);
  const text = formatChunkMap(map);
  const digest = chunkMapDigest(text);
  write(directory.mapFile(digest), text);
  const bytes = contents.flatMap((content) => (typeof content === 'number' ? zeroFrames(content) : [content]));
  return { digest, text, map, whole: Buffer.concat([...bytes, seekTable(frames(map))]) };
}

function zeroFrames(rawLength: number): Buffer[] {
  const whole = Buffer.alloc(zeroFramesLength(rawLength - (rawLength % CHUNK_BYTES)), zeroFrame(CHUNK_BYTES));
  return rawLength % CHUNK_BYTES === 0 ? [whole] : [whole, zeroFrame(rawLength % CHUNK_BYTES)];
}

function write(path: string, content: Buffer | string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}
