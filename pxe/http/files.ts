import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { Immutable } from './immutable.ts';
import { FOREVER, beginImmutable } from './immutable.ts';
import { imageParams } from './messages.ts';
import type { RamdiskFiles, ResidentFile } from './ramdisk-files.ts';
import type { Witness } from './witness.ts';

/** Where an image of this digest is stored, and how long it is; undefined for one that is not. */
export type ImageSource = (sha256: string) => Promise<{ path: string; bytes: number } | undefined>;

export interface FileDeps {
  /** For UEFI's HTTP boot: what TFTP serves, by the same names. */
  readonly loaders: ReadonlyMap<string, Buffer>;
  readonly ramdisk: RamdiskFiles;
  readonly images: ImageSource;
  readonly witness: Witness;
}

/** Loaders, kernel, ramdisk and images: public, and named or followed by their digest, so they may travel in the clear. */
export function registerFiles(app: FastifyInstance, { loaders, ramdisk, images, witness }: FileDeps): void {
  const method = ['GET', 'HEAD'];
  const loaderSources = new Map([...loaders].map(([name, bytes]) => [name, loaderSource(name, bytes)]));
  app.route<{ Params: { name: string } }>({
    method,
    url: '/loader/:name',
    config: { seen: 'loader' },
    handler: (request, reply) => {
      const source = loaderSources.get(request.params.name);
      if (source === undefined) throw new RackstartError('not-found', 'There is no loader of this name.');
      return send(request, reply, witness, source);
    },
  });
  app.route({
    method,
    url: '/ramdisk/vmlinuz',
    config: { seen: 'kernel' },
    handler: (request, reply) => send(request, reply, witness, resident(ramdisk.kernel)),
  });
  app.route({
    method,
    url: '/ramdisk/initrd',
    config: { seen: 'initrd' },
    handler: (request, reply) => send(request, reply, witness, resident(ramdisk.initrd)),
  });
  app.route<{ Params: { sha256: string } }>({
    method,
    url: '/images/:sha256',
    schema: { params: imageParams },
    config: { seen: 'image' },
    handler: async (request, reply) => {
      const { sha256 } = request.params;
      const image = await images(sha256);
      if (image === undefined) throw new RackstartError('not-found', 'No image of this digest is stored here.');
      const { path, bytes } = image;
      reply.headers(FOREVER);
      const open = (start: number, end: number) => createReadStream(path, { start, end, highWaterMark: CHUNK });
      return send(request, reply, witness, { bytes, sha256, open });
    },
  });
}

// An image is hundreds of megabytes: large reads keep the event loop for others.
const CHUNK = 1024 * 1024;

interface Source extends Immutable {
  /** Both ends included. */
  readonly open: (start: number, end: number) => Readable | Buffer;
}

function resident({ bytes, sha256 }: ResidentFile): Source {
  return { bytes: bytes.length, sha256, open: (start, end) => bytes.subarray(start, end + 1) };
}

// EDK2 goes by the type, and by the name's ending where it does not know the type.
function loaderSource(name: string, bytes: Buffer): Source {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { ...resident({ bytes, sha256 }), ...(name.endsWith('.efi') ? { type: 'application/efi' } : {}) };
}

function send(request: FastifyRequest, reply: FastifyReply, witness: Witness, source: Source): FastifyReply {
  const range = beginImmutable(request, reply, source);
  if (range === undefined) return reply.send();
  const { start, end, partial } = range;
  if (partial) witness.remark(request, { facts: { range: `${start}-${end}` } });
  return reply.send(source.open(start, end));
}
