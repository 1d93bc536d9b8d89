import { createReadStream } from 'node:fs';
import { copyFile, mkdir, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import type { Command } from 'commander';

import { buildOsImage } from '../../images/os/build.ts';
import { buildRamdisk } from '../../images/ramdisk/build.ts';
import { integer } from './arguments.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './failure.ts';
import { Progress } from './progress.ts';
import type { RemoteOptions } from './remote.ts';
import { answerTo, asksApi, connect } from './remote.ts';
import { facts, megabytes, table } from './text.ts';

interface Image {
  readonly id: string;
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly rawBytes: number;
}

interface AddOptions extends RemoteOptions {
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
  readonly rootPartition: number;
  readonly kernelArgs: string;
}

interface BuildOptions {
  readonly cache?: string;
  readonly json?: boolean;
}

export function imageCommands(program: Command, context: CliContext): void {
  const group = program.command('image').description('operating systems');
  buildCommand(group, context);
  addCommand(group, context);
  asksApi(group.command('list').description('list images')).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const list = (await api.get('/images')) as { images: Image[] };
    const rows = list.images.map(({ name, version, bytes, rawBytes, sha256, id }) => {
      return [name, version, megabytes(bytes), megabytes(rawBytes), sha256.slice(0, 12), id];
    });
    answer(list, table(['name', 'version', 'compressed', 'raw', 'SHA-256', 'id'], rows));
  });
}

export function ramdiskCommands(program: Command, context: CliContext): void {
  const group = program.command('ramdisk').description('what machines are installed by');
  builds(
    group
      .command('build')
      .description('build the ramdisk from this host’s Debian packages, as root')
      .requiredOption('--output <directory>', 'gets vmlinuz and initrd: `ramdisk` in the configuration'),
  ).action(async ({ output, ...options }: BuildOptions & { output: string }) => {
    const ramdisk = await buildRamdisk(buildWith(context, options));
    await mkdir(output, { recursive: true });
    await copyFile(ramdisk.kernel, join(output, 'vmlinuz'));
    await copyFile(ramdisk.initrd, join(output, 'initrd'));
    const { version, bytes } = ramdisk;
    const built = { directory: output, version, bytes };
    answerTo(context, options.json === true)(built, facts({ directory: output, version, size: megabytes(bytes) }));
  });
}

function buildCommand(group: Command, context: CliContext): void {
  builds(
    group
      .command('build')
      .description('build a Debian image from this host’s apt sources, as root')
      .option('--name <name>', 'of the file', 'debian-12'),
  ).action(async ({ name, ...options }: BuildOptions & { name: string }) => {
    const image = await buildOsImage({ name, ...buildWith(context, options) });
    const { path, version, sha256, bytes, rawBytes, rootPartition, kernelArgs } = image;
    const add = [`rackstart image add ${path} --name ${name} --version ${version} --sha256 ${sha256}`];
    add.push(`--root-partition ${String(rootPartition)} --kernel-args '${kernelArgs}'`);
    const size = `${megabytes(bytes)}, ${megabytes(rawBytes)} raw`;
    answerTo(context, options.json === true)(image, `${facts({ path, version, sha256, size })}\n${add.join(' ')}\n`);
  });
}

function addCommand(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('add <file>')
      .description('add a raw disk image compressed with zstd')
      .requiredOption('--name <name>')
      .requiredOption('--version <version>')
      .requiredOption('--sha256 <hex>', 'of the file')
      .requiredOption('--root-partition <number>', 'with the root file system; the last one', integer)
      .option('--kernel-args <text>', 'for its kernel, beside root=', ''),
  ).action(async (file: string, options: AddOptions) => {
    const { api, answer } = await connect(context, options);
    const { name, version, sha256, rootPartition, kernelArgs } = options;
    const query = { name, version, sha256, rootPartition: String(rootPartition), kernelArgs };
    const size = await stat(file).catch((cause: unknown) => {
      throw new UsageError(`The image ${file} can't be read.`, 'Check its name and who may read it.', cause);
    });
    const progress = new Progress(context);
    try {
      const content = counted(file, size.size, progress);
      const path = `/images?${new URLSearchParams(query).toString()}`;
      const image = (await api.upload(path, { type: 'application/zstd', content })) as Image;
      progress.line(`${image.name}:${image.version} is there, ${megabytes(image.bytes)}`);
      answer(image, `${image.id}\n`);
    } finally {
      progress.end();
    }
  });
}

function counted(file: string, size: number, progress: Progress): ReadableStream<Uint8Array> {
  let sent = 0;
  let shown = -1;
  const count = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      sent += chunk.length;
      const percent = Math.floor((100 * sent) / size);
      if (percent !== shown) {
        const bar = '#'.repeat(Math.floor(percent / 4)).padEnd(25, '.');
        progress.live(`${bar} ${String(percent)} % of ${megabytes(size)}`);
        shown = percent;
      }
      done(null, chunk);
    },
    flush(done) {
      progress.live('sent; the appliance checks it ...');
      done();
    },
  });
  return Readable.toWeb(createReadStream(file).pipe(count)) as ReadableStream<Uint8Array>;
}

function builds(command: Command): Command {
  return command
    .option('--cache <directory>', 'where what was built is kept (default: rackstart in XDG_CACHE_HOME or ~/.cache)')
    .option('--json', 'print the result for programs');
}

function buildWith(context: CliContext, { cache }: BuildOptions) {
  const progress = new Progress(context);
  const home = context.environment['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  return { cacheDirectory: cache ?? join(home, 'rackstart'), progress: (line: string) => progress.line(line) };
}
