import { Type } from 'typebox';

import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Discovery } from '../machines/enrolment/discovery.ts';
import { checkManifest } from '../machines/enrolment/manifest-check.ts';
import { MOST_MANIFEST_BYTES, readManifest } from '../machines/enrolment/manifest-file.ts';
import type { ManifestDeps, NamedRow } from '../machines/enrolment/manifest.ts';
import { loadManifest, manifestRows, removeExpected } from '../machines/enrolment/manifest.ts';
import type { Store } from '../store/store.ts';
import { doneBy } from './auth.ts';
import { Id, IdParams, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';

export interface ManifestRouteDeps extends ManifestDeps {
  readonly store: Store;
  readonly discovery: Discovery;
  readonly clock: Clock;
}

const Row = Type.Object({
  id: Id,
  serial: Type.String(),
  name: Type.String(),
  region: Type.String(),
  rack: Type.String(),
  unit: Type.Integer(),
  bmc: Type.Object({
    kind: Type.String(),
    address: Type.String(),
    port: Type.Integer(),
    username: Type.String(),
  }),
  nicRole: Type.String(),
  switchPort: Type.Union([Type.String(), Type.Null()]),
  machine: Type.Union([Id, Type.Null()], { description: 'The machine that it is; null: it has not been seen.' }),
});

const Check = Type.Object({
  missing: Type.Array(
    Type.Object({
      ...{ serial: Type.String(), name: Type.String(), rack: Type.String(), unit: Type.Integer() },
      waits: Type.Union([Type.String(), Type.Null()], {
        description: 'Why a machine of this serial number waits that has booted; null: none has.',
      }),
    }),
  ),
  unexpected: Type.Array(
    Type.Object({
      machine: Type.Union([Id, Type.Null()], { description: 'An enrolled machine …' }),
      discovered: Type.Union([Id, Type.Null()], { description: '… or one that has booted unknown.' }),
      serial: Type.Union([Type.String(), Type.Null()]),
      mac: Type.Union([Type.String(), Type.Null()]),
    }),
  ),
  differing: Type.Array(
    Type.Object({
      ...{ machine: Id, serial: Type.String(), what: Type.String(), expected: Type.String(), seen: Type.String() },
    }),
  ),
});

const Count = Type.Integer({ minimum: 0 });
const tags = ['machines'];

/** JSON escapes at most every character of it. */
const BODY_LIMIT = 2 * MOST_MANIFEST_BYTES;

/** What machines are expected; an operator's alone. */
export function manifestRoutes(api: Api, deps: ManifestRouteDeps): void {
  const { store, events, clock, discovery } = deps;
  api.post(
    '/manifest',
    {
      bodyLimit: BODY_LIMIT,
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Load a manifest of expected machines: adds rows, and changes those of the same serial number',
        body: Type.Object(
          {
            format: Type.Enum(['csv', 'yaml']),
            text: Type.String({
              maxLength: MOST_MANIFEST_BYTES,
              description:
                'CSV with a header line, or a YAML list of mappings: serial, region, rack, unit, bmc_address, bmc_user and ' +
                'bmc_password; besides, name (default: rack-uUNIT), bmc_port (623), bmc_kind (ipmi), cipher_suite (17), nic_role ' +
                '(both) and switch_port. Rows in errors are counted from 0.',
            }),
          },
          strict,
        ),
        response: { 200: Type.Object({ added: Count, changed: Count, unchanged: Count }), ...problems },
      },
    },
    async (request) => {
      const { format, text } = request.body;
      const entries = readManifest(format, text);
      return store.transaction((tx) => {
        tx.afterCommit(() => discovery.nudge());
        return loadManifest(tx, deps, entries, { ...doneBy(request), at: clock.now() });
      });
    },
  );

  api.get(
    '/manifest',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'List the machines that are expected',
        response: { 200: Type.Object({ rows: Type.Array(Row) }), ...problems },
      },
    },
    async () => ({ rows: (await manifestRows(store.read)).map(presentRow) }),
  );

  api.get(
    '/manifest/check',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'Hold what was racked against the manifest: what is missing, what was not expected, and what differs',
        response: { 200: Check, ...problems },
      },
    },
    () => checkManifest(store.read),
  );

  api.delete(
    '/manifest/:id',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Expect a machine no longer; one that was enrolled stays enrolled',
        params: IdParams,
        response: { 204: Type.Null(), ...problems },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      await store.transaction(async (tx) => {
        if (await removeExpected(tx, events, id, doneBy(request))) return;
        throw new RackstartError('not-found', `The manifest has no row ${id}.`);
      });
      return reply.code(204).send(null);
    },
  );
}

function presentRow(row: NamedRow) {
  const { id, serial, name, region, rack, unit } = row;
  return {
    ...{ id, serial, name, region, rack, unit },
    bmc: { kind: row.bmc_kind, address: row.bmc_address, port: row.bmc_port, username: row.bmc_username },
    nicRole: row.nic_role,
    switchPort: row.switch_port,
    machine: row.machine_id,
  };
}
