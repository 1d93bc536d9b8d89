import { createHash } from 'node:crypto';

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { Immutable } from './immutable.ts';
import { beginImmutable } from './immutable.ts';
import type { RamdiskFiles, ResidentFile } from './ramdisk-files.ts';
import type { Witness } from './witness.ts';

export interface FileDeps {
  /** For UEFI's HTTP boot: what TFTP serves, by the same names. */
  readonly loaders: ReadonlyMap<string, Buffer>;
  readonly ramdisk: RamdiskFiles;
  readonly witness: Witness;
}

/** Loaders, kernel and ramdisk: public, so they may travel in the clear. */
export function registerFiles(app: FastifyInstance, { loaders, ramdisk, witness }: FileDeps): void {
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
}

interface Source extends Immutable {
  readonly content: Buffer;
}

function resident({ bytes, sha256 }: ResidentFile): Source {
  return { bytes: bytes.length, sha256, content: bytes };
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
  return reply.send(source.content.subarray(start, end + 1));
}
