import { copyFile, mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';

import { buildOsImage } from '../../images/os/build.ts';
import { buildRamdisk } from '../../images/ramdisk/build.ts';
import { integer } from './arguments.ts';
import type { ApiClient } from './client.ts';
import type { CliContext } from './context.ts';
import { countedFile } from './counted-file.ts';
import { imageImportCommands } from './image-imports.ts';
import { imageUploadCommands, sizeOf } from './image-upload.ts';
import type { Image } from './image.ts';
import { findImage, imageFacts, listImages } from './image.ts';
import { Progress } from './progress.ts';
import type { RemoteOptions } from './remote.ts';
import { answerTo, asksApi, connect } from './remote.ts';
import { facts, megabytes, table } from './text.ts';

interface AddOptions extends RemoteOptions {
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
  readonly rootPartition?: number;
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
  imageUploadCommands(group, context);
  imageImportCommands(group, context);
  asksApi(group.command('list').description('list images')).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const images = await listImages(api);
    const rows = images.map(({ name, version, tenant, bytes, rawBytes, sha256, deprecatedAt, id }) => {
      const use = deprecatedAt === null ? 'yes' : 'deprecated';
      return [name, version, use, tenant, megabytes(bytes), megabytes(rawBytes), sha256.slice(0, 12), id];
    });
    answer({ images }, table(['name', 'version', 'use', 'tenant', 'stored', 'raw', 'SHA-256', 'id'], rows));
  });
  asksApi(group.command('show <image>').description('show an image: name, name:version or id')).action(
    async (which: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const image = await findImage(api, which);
      answer(image, imageFacts(image));
    },
  );
  const change = (command: string, description: string, said: string, act: (api: ApiClient, path: string) => unknown) =>
    asksApi(group.command(`${command} <image>`).description(description)).action(
      async (which: string, options: RemoteOptions) => {
        const { api, answer } = await connect(context, options);
        const { id, name, version } = await findImage(api, which);
        await act(api, `/images/${id}`);
        answer({ id, name, version }, `${name}:${version} ${said}\n`);
      },
    );
  change('deprecate', 'have no more servers ordered with it; those that run keep it', 'is deprecated', (api, path) => {
    return api.act(`${path}/deprecate`);
  });
  change('undeprecate', 'have servers ordered with it again', 'can be ordered again', (api, path) => {
    return api.act(`${path}/undeprecate`);
  });
  change('remove', 'delete an image that no server needs', 'is removed', (api, path) => api.delete(path));
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
      .option('--name <name>', 'of the file (default: debian-12, with cloud-init debian-12-cloud)')
      .option('--cloud-init', 'as Debian’s cloud images are, which run the user data of an order'),
  ).action(async ({ cloudInit = false, ...options }: BuildOptions & { name?: string; cloudInit?: boolean }) => {
    const { name = cloudInit ? 'debian-12-cloud' : 'debian-12' } = options;
    const image = await buildOsImage({ name, cloudInit, ...buildWith(context, options) });
    const { path, version, sha256, bytes, rawBytes, rootPartition, kernelArgs } = image;
    const add = [`rackstart image add ${path} --name ${name} --version ${version} --sha256 ${sha256}`];
    add.push(`--root-partition ${String(rootPartition)} --kernel-args '${kernelArgs}'`);
    const size = `${megabytes(bytes)}, ${megabytes(rawBytes)} raw`;
    answerTo(context, options.json === true)(image, `${facts({ path, version, sha256, size })}\n${add.join(' ')}\n`);
  });
}

/** In one body, for everyone: operators alone may. */
function addCommand(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('add <file>')
      .description(
        'add a raw disk image compressed with zstd, for everyone; `upload` takes others, and goes on when cut',
      )
      .requiredOption('--name <name>')
      .requiredOption('--version <version>')
      .requiredOption('--sha256 <hex>', 'of the file')
      .option('--root-partition <number>', 'with the root file system, when several could be', integer)
      .option('--kernel-args <text>', 'for its kernel, beside root=', ''),
  ).action(async (file: string, options: AddOptions) => {
    const { api, answer } = await connect(context, options);
    const { name, version, sha256, rootPartition, kernelArgs } = options;
    const root = rootPartition === undefined ? {} : { rootPartition: String(rootPartition) };
    const query = new URLSearchParams({ name, version, sha256, ...root, kernelArgs });
    const bytes = await sizeOf(file);
    const progress = new Progress(context);
    try {
      const show = progress.meter('sending');
      const content = countedFile(file, { from: 0, to: bytes }, (done) => {
        if (done < bytes) show(done, bytes);
        else progress.live('sent; the appliance checks it ...');
      });
      const image = (await api.upload(`/images?${query.toString()}`, { type: 'application/zstd', content })) as Image;
      progress.line(`${image.name}:${image.version} is there, ${megabytes(image.bytes)}`);
      answer(image, `${image.id}\n`);
    } finally {
      progress.end();
    }
  });
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
