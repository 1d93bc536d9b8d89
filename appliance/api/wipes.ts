import { Type } from 'typebox';

import { wipesOf } from '../machines/wipe-certificates.ts';
import type { Reader } from '../store/store.ts';
import { requireMachine } from './machine-issues.ts';
import { Id, IdParams, Timestamp, iso, problems } from './schemas.ts';
import type { Api } from './typed-api.ts';

const Certificate = Type.Object({
  id: Id,
  boot: Type.String({ description: 'The boot in which it was wiped.' }),
  disk: Type.String(),
  serial: Type.String(),
  model: Type.String(),
  bytes: Type.Integer(),
  method: Type.String({
    description:
      'What erased it: `nvme-format-crypto`, `nvme-format`, `nvme-sanitize-block`, `nvme-sanitize-crypto`, `ata-erase`, ' +
      '`ata-erase-enhanced`, `discard`, `zero`; two joined by `+` where the first left no zeros.',
  }),
  startedAt: Timestamp,
  endedAt: Timestamp,
  seed: Type.String({ description: 'From which the places of the samples follow.' }),
  samples: Type.Integer({ description: 'How many places were read back.' }),
  sampledBytes: Type.Integer(),
  digest: Type.String({ description: 'SHA-256 of all that was read back: that of as many zeros where it passed.' }),
  result: Type.Enum(['passed', 'failed']),
  reason: Type.Union([Type.String(), Type.Null()], { description: 'Why it failed.' }),
});

const MOST = 500;

/** What proves that disks were wiped. */
export function wipeRoutes(api: Api, read: Reader): void {
  api.get(
    '/machines/:id/wipes',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags: ['machines'],
        summary: `List the certificates of a machine's wipes, a disk each, the newest first; at most ${String(MOST)}`,
        params: IdParams,
        response: { 200: Type.Object({ wipes: Type.Array(Certificate) }), ...problems },
      },
    },
    async (request) => {
      const { id: machineId } = request.params;
      await requireMachine(read, machineId);
      const rows = await wipesOf(read, machineId, MOST);
      return {
        wipes: rows.map(({ machine_id: _, session_id, started_at, ended_at, sampled_bytes, ...certificate }) => ({
          ...certificate,
          ...{ boot: session_id, startedAt: iso(started_at), endedAt: iso(ended_at), sampledBytes: sampled_bytes },
        })),
      };
    },
  );
}
