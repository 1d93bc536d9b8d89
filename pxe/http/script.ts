import type { FastifyInstance, FastifyRequest } from 'fastify';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import { Secret } from '../../appliance/kernel/secret.ts';
import type { BootScripts } from '../../templates/boot-scripts.ts';
import { hyphenated, parseMac } from '../boot-client.ts';
import type { BootDirector } from '../boot-plan.ts';
import { scriptParams, scriptQuery } from './messages.ts';
import type { Witness } from './witness.ts';
import { plainAddress } from './witness.ts';

export interface ScriptDeps {
  readonly director: BootDirector;
  readonly scripts: BootScripts;
  readonly witness: Witness;
  readonly httpPort: () => number;
  readonly httpsPort: () => number;
}

/** What iPXE asks for. Without a token anybody gets the way to their own disk, which tells nobody anything. */
export function registerScript(app: FastifyInstance, deps: ScriptDeps): void {
  const { director, scripts, witness } = deps;
  app.get<{ Params: { mac: string }; Querystring: { token?: string } }>(
    '/boot/:mac',
    { schema: { params: scriptParams, querystring: scriptQuery }, config: { seen: 'script' } },
    async (request, reply) => {
      const mac = parseMac(request.params.mac);
      if (mac === undefined) throw new RackstartError('not-found', 'There is no such machine.');
      const { token } = request.query;
      witness.remark(request, { mac, ...(token === undefined ? { name: 'local-disk' } : {}) });
      reply.type('text/plain; charset=utf-8').header('cache-control', 'no-store');
      if (token === undefined) return scripts.localDisk({});

      const host = ownHost(request);
      const { claimToken, address, gateway } = await director.script(mac, new Secret(token));
      return scripts.ramdisk({
        kernelUrl: `http://${host}:${deps.httpPort()}/ramdisk/vmlinuz`,
        initrdUrl: `http://${host}:${deps.httpPort()}/ramdisk/initrd`,
        url: `https://${host}:${deps.httpsPort()}`,
        claimToken: claimToken.reveal(),
        mac: hyphenated(mac),
        address,
        gateway: gateway ?? null,
      });
    },
  );
}

/** The address of ours that this machine reached, never what its Host header says. */
function ownHost({ raw }: FastifyRequest): string {
  const address = plainAddress(raw.socket.localAddress ?? '');
  return address.includes(':') ? `[${address}]` : address;
}
