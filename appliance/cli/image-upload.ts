import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import { countedFile } from './counted-file.ts';
import { UsageError } from './failure.ts';
import type { ImageImport } from './follow-import.ts';
import { followImport } from './follow-import.ts';
import type { Declared } from './image-imports.ts';
import { declarationOf, declares } from './image-imports.ts';
import type { Image } from './image.ts';
import { listImages } from './image.ts';
import { Progress } from './progress.ts';
import type { Remote, RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { sendFile } from './send-file.ts';
import { megabytes, table } from './text.ts';

interface Upload {
  readonly id: string;
  readonly name: string;
  readonly version: string;
  readonly format: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly received: number;
  readonly expiresAt: string;
}

interface ImageFile extends ReturnType<typeof declarationOf> {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** `image upload|uploads`. */
export function imageUploadCommands(group: Command, context: CliContext): void {
  declares(
    group
      .command('upload <file>')
      .description('send a disk image, and follow it until servers can be ordered with it; goes on where it was cut')
      .option('--sha256 <hex>', 'of the file (default: of what is read)'),
  ).action(async (path: string, options: Declared & { sha256?: string }) => {
    const remote = await connect(context, options);
    const declared = declarationOf(options, path);
    const bytes = await sizeOf(path);
    const progress = new Progress(context);
    try {
      const sha256 = options.sha256?.toLowerCase() ?? (await digest(path, bytes, progress, context.signal));
      const image = await upload(context, remote, progress, { ...declared, path, bytes, sha256 });
      remote.answer(image, `${image.id}\n`);
    } finally {
      progress.end();
    }
  });

  asksApi(group.command('uploads').description('list uploads that are under way')).action(
    async (options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const list = (await api.get('/images/uploads')) as { uploads: Upload[] };
      const rows = list.uploads.map(({ id, name, version, format, received, bytes, expiresAt }) => {
        return [id, name, version, format, `${megabytes(received)} of ${megabytes(bytes)}`, expiresAt];
      });
      answer(list, table(['id', 'name', 'version', 'format', 'here', 'until'], rows));
    },
  );
}

/** Goes on with what an earlier run of it has begun, wherever that has got to. */
async function upload(context: CliContext, { api }: Remote, progress: Progress, file: ImageFile): Promise<Image> {
  const { name, version, sha256 } = file;
  const isOurs = (other: { name: string; version: string }) => other.name === name && other.version === version;
  const there = (await listImages(api)).find((image) => isOurs(image) && image.sha256 === sha256);
  if (there !== undefined) {
    progress.line(`${name}:${version} is there already`);
    return there;
  }
  const { imports } = (await api.get('/images/imports')) as { imports: ImageImport[] };
  const running = imports.find((each) => isOurs(each) && each.state === 'running');
  const image = await followImport(
    context,
    api,
    progress,
    running?.id ?? (await send(context, { api }, progress, file)),
  );
  if (image.sha256 !== sha256) {
    throw new UsageError(
      `${name}:${version} has become another file’s: its SHA-256 is ${image.sha256}.`,
      'Somebody else sent it at the same time. Take another version.',
    );
  }
  progress.line(`${name}:${version} is there: ${megabytes(image.bytes)} of ${megabytes(image.rawBytes)} raw`);
  return image;
}

/** Resolves to the import that the file becomes. */
async function send(
  context: CliContext,
  { api }: Pick<Remote, 'api'>,
  progress: Progress,
  { path, ...declared }: ImageFile,
): Promise<string> {
  const { uploads } = (await api.get('/images/uploads')) as { uploads: Upload[] };
  const same = ['name', 'version', 'format', 'bytes', 'sha256'] as const satisfies readonly (keyof Upload)[];
  const begun = uploads.find((each) => same.every((field) => each[field] === declared[field]));
  const { id, received } = begun ?? ((await api.post('/images/uploads', declared)) as Upload);
  if (begun !== undefined) progress.line(`goes on with ${id}: ${megabytes(received)} are there`);
  await sendFile(context, { api, progress, id, path, bytes: declared.bytes, received });
  return ((await api.act(`/images/uploads/${id}/complete`)) as { import: string }).import;
}

/** Errors: `UsageError` for a file that is not there, or empty. */
export async function sizeOf(path: string): Promise<number> {
  const { size } = await stat(path).catch((cause: unknown) => {
    throw new UsageError(`The image ${path} can't be read.`, 'Check its name and who may read it.', cause);
  });
  if (size === 0) throw new UsageError(`The image ${path} is empty.`, 'Check its name, and that it was written whole.');
  return size;
}

async function digest(path: string, bytes: number, progress: Progress, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const show = progress.meter('reading');
  await pipeline(
    countedFile(path, { from: 0, to: bytes }, (done) => show(done, bytes)),
    hash,
    { signal },
  );
  return hash.digest('hex');
}
