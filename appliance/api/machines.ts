import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Static } from 'typebox';

import type { Mac } from '../../pxe/boot-client.ts';
import { parseMac } from '../../pxe/boot-client.ts';
import type { EventMap } from '../events/catalogue.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import { Secret } from '../kernel/secret.ts';
import type { BmcFleet } from '../machines/bmc-fleet.ts';
import type { NewMachine } from '../machines/enrol.ts';
import { enrolMachine } from '../machines/enrol.ts';
import type { ReadyPool } from '../pool/ready-pool.ts';
import type { MachineCare } from '../machines/machine-care.ts';
import type { Store, Tx } from '../store/store.ts';
import type { Api } from './typed-api.ts';
import { doneBy } from './auth.ts';
import { BmcAddress, bmcFields } from './bmc-schemas.ts';
import { diskPlanRoute } from './disk-plan.ts';
import { issueRoutes } from './machine-issues.ts';
import { Machine, findMachine, present } from './machine-view.ts';
import { Id, IdParams, Name, problems, strict } from './schemas.ts';
import { invalid } from './unique.ts';
import { wipeRoutes } from './wipes.ts';

export interface MachineRouteDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly fleet: BmcFleet;
  readonly care: MachineCare;
  readonly pool: ReadyPool;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly seal: (machineId: string, password: Secret) => string;
}

const Role = Type.Union([Type.Literal('provisioning'), Type.Literal('customer'), Type.Literal('both')]);
const DiskType = Type.Union([Type.Literal('nvme'), Type.Literal('ssd'), Type.Literal('hdd')]);

const MacText = Type.String({ pattern: '^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$' });
const SwitchPort = Type.String({
  minLength: 1,
  maxLength: 200,
  pattern: '^[ -~]+$',
  description:
    'Where the NIC is plugged in, as a trusted DHCP relay tells it: its remote id (or its address), a slash, its ' +
    'circuit id. A boot that such a relay tells from another port is refused.',
});

const NewMachineBody = Type.Object(
  {
    name: Name,
    rack: Id,
    bmc: Type.Object({ ...bmcFields, address: BmcAddress }, strict),
    nics: Type.Array(Type.Object({ mac: MacText, role: Role, switchPort: Type.Optional(SwitchPort) }, strict), {
      minItems: 1,
      maxItems: 16,
    }),
    disk: Type.Optional(
      Type.Object(
        {
          minBytes: Type.Optional(Type.Integer({ minimum: 0 })),
          maxBytes: Type.Optional(Type.Integer({ minimum: 0 })),
          serial: Type.Optional(Type.String({ maxLength: 64, pattern: '^[A-Za-z0-9_.-]+$' })),
          type: Type.Optional(DiskType),
        },
        strict,
      ),
    ),
  },
  strict,
);

const tags = ['machines'];

/** The fleet; an operator's alone. */
export function machineRoutes(api: Api, deps: MachineRouteDeps): void {
  const { store, events, fleet, care, pool, clock } = deps;
  const { read } = store;
  type Action = EventMap['machine.asked']['action'];
  const asked = (tx: Tx, request: FastifyRequest, machineId: string, action: Action) =>
    events.append(tx, 'machine.asked', { key: machineId, ...doneBy(request), data: { machineId, action } });
  diskPlanRoute(api, store);
  issueRoutes(api, deps);
  wipeRoutes(api, read);

  api.post(
    '/machines',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Enrol a machine and inspect it',
        body: NewMachineBody,
        response: { 202: Machine, ...problems },
      },
    },
    async (request, reply) => {
      const { name, rack, bmc, nics, disk } = request.body;
      const machine: NewMachine = {
        name,
        rackId: rack,
        bmc: {
          kind: bmc.kind ?? 'ipmi',
          address: bmc.address,
          port: bmc.port ?? 623,
          username: bmc.username,
          password: new Secret(bmc.password),
          cipherSuite: bmc.cipherSuite ?? 17,
        },
        nics: checkedNics(nics),
        diskRule: { minBytes: 0, ...disk },
      };
      const id = await store.transaction(async (tx) => {
        const machineId = await enrolMachine(tx, deps, machine, { ...doneBy(request), at: clock.now() });
        await care.startInspection(tx, machineId);
        return machineId;
      });
      return reply.code(202).send(await present(read, id));
    },
  );

  api.get(
    '/machines',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'List machines',
        response: { 200: Type.Object({ machines: Type.Array(Machine) }), ...problems },
      },
    },
    async () => {
      const rows = await read.selectFrom('machines').select('id').orderBy('name').execute();
      return { machines: await Promise.all(rows.map(({ id }) => present(read, id))) };
    },
  );

  api.get(
    '/machines/:id',
    {
      config: { right: 'fleet:read' },
      schema: { tags, summary: 'Show a machine', params: IdParams, response: { 200: Machine, ...problems } },
    },
    async (request) => present(read, request.params.id),
  );

  api.patch(
    '/machines/:id/nics/:mac',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Say where a NIC is plugged in, or (null) that any port will do',
        params: Type.Object({ id: Id, mac: MacText }, strict),
        body: Type.Object({ switchPort: Type.Union([SwitchPort, Type.Null()]) }, strict),
        response: { 200: Machine, ...problems },
      },
    },
    async (request) => {
      const { id, mac } = request.params;
      await findMachine(read, id);
      await store.transaction(async (tx) => {
        const { numUpdatedRows } = await tx
          .updateTable('machine_nics')
          .set({ switch_port: request.body.switchPort })
          .where('machine_id', '=', id)
          .where('mac', '=', parseMac(mac) ?? mac)
          .executeTakeFirst();
        if (numUpdatedRows === 0n) throw new RackstartError('not-found', `Machine ${id} has no NIC ${mac}.`);
        await asked(tx, request, id, 'plug-in');
      });
      return present(read, id);
    },
  );

  api.get(
    '/machines/:id/power',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'Read the power state from the BMC, twice',
        params: IdParams,
        response: { 200: Type.Object({ power: Type.String() }), ...problems },
      },
    },
    async (request) => ({ power: await (await fleet.of(request.params.id)).power(AbortSignal.timeout(30_000)) }),
  );

  api.post(
    '/machines/:id/power',
    {
      config: { right: 'fleet:write', actsOutside: true },
      schema: {
        tags,
        summary: 'Switch a machine that nobody holds on or off',
        params: IdParams,
        body: Type.Object(
          { want: Type.Union([Type.Literal('on'), Type.Literal('off'), Type.Literal('reset')]) },
          strict,
        ),
        response: { 200: Type.Object({ power: Type.String() }), ...problems },
      },
    },
    async (request) => {
      const { id } = request.params;
      const { state } = await findMachine(read, id);
      if (['deploying', 'inspecting', 'releasing', 'warming', 'ready', 'draining'].includes(state)) {
        throw new RackstartError(
          'state.conflict',
          `Machine ${id} is ${state}: its power is ours until that has ended.`,
        );
      }
      const bmc = await fleet.of(id);
      await store.transaction((tx) => asked(tx, request, id, `power-${request.body.want}`));
      const signal = AbortSignal.timeout(60_000);
      await bmc.setPower(request.body.want, signal);
      return { power: await bmc.power(signal) };
    },
  );

  api.post(
    '/machines/:id/inspect',
    {
      config: { right: 'fleet:write' },
      schema: { tags, summary: 'Read the hardware again', params: IdParams, response: { 202: Machine, ...problems } },
    },
    async (request, reply) => {
      const { id } = request.params;
      await findMachine(read, id);
      await store.transaction(async (tx) => {
        await asked(tx, request, id, 'inspect');
        await care.startInspection(tx, id);
      });
      return reply.code(202).send(await present(read, id));
    },
  );

  for (const { verb, summary, move } of [
    {
      verb: 'warm',
      summary: 'Power a machine on and have it wait in the ramdisk for its next server',
      move: (tx: Tx, id: string) => pool.warmMachine(tx, id),
    },
    {
      verb: 'drain',
      summary: 'Take a machine that waits out of the ready pool, and switch it off',
      move: (tx: Tx, id: string) => pool.drainMachine(tx, id),
    },
  ] as const) {
    api.post(
      `/machines/:id/${verb}`,
      {
        config: { right: 'fleet:write' },
        schema: { tags, summary, params: IdParams, response: { 202: Machine, ...problems } },
      },
      async (request, reply) => {
        const { id } = request.params;
        await findMachine(read, id);
        await store.transaction(async (tx) => {
          await asked(tx, request, id, verb);
          await move(tx, id);
        });
        return reply.code(202).send(await present(read, id));
      },
    );
  }

  api.post(
    '/machines/:id/readmit',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary:
          'Lift a quarantine: a disk that a tenant may have written is wiped, then the machine is inspected and checked; it ' +
          'serves again when nothing critical is found',
        params: IdParams,
        response: { 202: Machine, ...problems },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const { state } = await findMachine(read, id);
      if (state !== 'quarantined') throw new RackstartError('state.conflict', `Machine ${id} is not quarantined.`);
      // It may still answer at the addresses it was set aside with: they are free once it is proven off.
      await (await fleet.of(id)).setPower('off', AbortSignal.timeout(60_000));
      await store.transaction(async (tx) => {
        await asked(tx, request, id, 'readmit');
        await tx.deleteFrom('addresses').where('holder_kind', '=', 'set-aside').where('holder_id', '=', id).execute();
        await care.startReadmission(tx, id, request.caller.keyId);
      });
      return reply.code(202).send(await present(read, id));
    },
  );
}

function checkedNics(nics: Static<typeof NewMachineBody>['nics']): NewMachine['nics'] {
  const seen = new Set<Mac>();
  return nics.map(({ mac: text, ...rest }, index) => {
    const field = `/nics/${String(index)}/mac`;
    const mac = parseMac(text);
    if (mac === undefined) throw invalid(field, 'A NIC has no multicast or zero address.');
    if (seen.has(mac)) throw invalid(field, 'This is another NIC of the same machine.');
    seen.add(mac);
    return { mac, ...rest };
  });
}
