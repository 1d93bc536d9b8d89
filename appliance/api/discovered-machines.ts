import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';

import type { EventMap } from '../events/catalogue.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { Secret } from '../kernel/secret.ts';
import type { Discovery } from '../machines/enrolment/discovery.ts';
import { findDiscovered } from '../machines/enrolment/discovery.ts';
import { factsOf } from '../machines/enrolment/strangers.ts';
import type { DiscoveredMachineRow } from '../store/schema.ts';
import type { Store, Tx } from '../store/store.ts';
import { doneBy } from './auth.ts';
import { BmcAddress, bmcFields } from './bmc-schemas.ts';
import { Dimms, Wear, firmwareFields, linkFields, presentFirmware } from './hardware-view.ts';
import { Machine, present } from './machine-view.ts';
import { Id, IdParams, MaybeTimestamp, Name, Timestamp, iso, maybeIso, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';
import { invalid } from './unique.ts';

export interface DiscoveredRouteDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly discovery: Discovery;
}

const MaybeText = Type.Union([Type.String(), Type.Null()]);
const Size = Type.Integer({ minimum: 0 });

const Discovered = Type.Object({
  id: Id,
  mac: Type.String({ description: 'Of the NIC that it booted from.' }),
  address: Type.String({ description: 'What it had leased.' }),
  subnet: Id,
  state: Type.Enum(['inspecting', 'waiting', 'rejected', 'enrolled']),
  reason: Type.Union([Type.String(), Type.Null()], { description: 'Why it waits.' }),
  machine: Type.Union([Id, Type.Null()], { description: 'As which it was enrolled.' }),
  firstSeenAt: Timestamp,
  seenAt: Timestamp,
  toldAt: MaybeTimestamp,
  facts: Type.Union([
    Type.Object(
      {
        ...{ vendor: Type.String(), model: Type.String(), serial: Type.String(), uuid: Type.String() },
        ...{ firmware: Type.String(), ...firmwareFields, bmcAddress: MaybeText },
        ...{ cores: Size, memoryMib: Size },
        dimms: Dimms,
        disks: Type.Array(
          Type.Object({
            ...{ name: Type.String(), bytes: Size, type: Type.String(), serial: Type.String(), model: Type.String() },
            wear: Wear,
          }),
        ),
        nics: Type.Array(
          Type.Object({
            ...{ name: Type.String(), mac: Type.String(), up: Type.Boolean() },
            ...linkFields,
          }),
        ),
      },
      { description: 'What it says of itself; nothing of it is proven.' },
    ),
    Type.Null(),
  ]),
});

const Accepted = Type.Object(
  {
    name: Name,
    rack: Id,
    bmc: Type.Object(
      { ...bmcFields, address: Type.Optional(BmcAddress) },
      { ...strict, description: 'Without an address it is the one that the machine told.' },
    ),
    role: Type.Optional(
      Type.Enum(['both', 'provisioning'], { description: 'Of the NIC that it booted from; default: both.' }),
    ),
  },
  strict,
);

const tags = ['machines'];

/** Machines that booted from the network and that nobody had enrolled; an operator's alone. */
export function discoveredRoutes(api: Api, deps: DiscoveredRouteDeps): void {
  const { store, events, clock, discovery } = deps;
  const { read } = store;
  type Decision = EventMap['machine.discovery-decided']['decision'];
  const decided = (tx: Tx, request: FastifyRequest, { id, mac }: DiscoveredMachineRow, decision: Decision) => {
    const data = { discoveredId: id, mac, decision };
    return events.append(tx, 'machine.discovery-decided', { key: id, ...doneBy(request), data });
  };

  api.get(
    '/discovered-machines',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'List unknown machines that booted from the network, what they are made of, and why they wait',
        response: { 200: Type.Object({ machines: Type.Array(Discovered) }), ...problems },
      },
    },
    async () => {
      const rows = await read.selectFrom('discovered_machines').selectAll().orderBy('first_seen_at', 'desc').execute();
      return { machines: rows.map(presentDiscovered) };
    },
  );

  api.get(
    '/discovered-machines/:id',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'Show an unknown machine',
        params: IdParams,
        response: { 200: Discovered, ...problems },
      },
    },
    async (request) => presentDiscovered(await findDiscovered(read, request.params.id)),
  );

  api.post(
    '/discovered-machines/:id/accept',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Enrol an unknown machine that waits, and inspect it',
        params: IdParams,
        body: Accepted,
        response: { 202: Machine, ...problems },
      },
    },
    async (request, reply) => {
      const { name, rack, bmc, role = 'both' } = request.body;
      const { id } = request.params;
      const machineId = await store.transaction(async (tx) => {
        const row = await findDiscovered(tx, id);
        const address = bmc.address ?? factsOf(row)?.bmcAddress;
        if (address === undefined) throw invalid('/bmc/address', 'The machine told none: say where its BMC is.');
        const password = new Secret(bmc.password);
        const endpoint = { ...({ kind: 'ipmi', port: 623, cipherSuite: 17 } as const), ...bmc, address, password };
        await decided(tx, request, row, 'accepted');
        const by = doneBy(request);
        return discovery.accept(tx, id, { name, rackId: rack, bmc: endpoint, nicRole: role, by });
      });
      return reply.code(202).send(await present(read, machineId));
    },
  );

  api.post(
    '/discovered-machines/:id/reject',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Leave an unknown machine alone from here on: it is not inspected again',
        params: IdParams,
        response: { 200: Discovered, ...problems },
      },
    },
    async (request) => {
      const { id } = request.params;
      await store.transaction(async (tx) => {
        const row = await notEnrolled(tx, id);
        const rejected = { state: 'rejected', reason: null, seen_at: clock.now() } as const;
        await tx.updateTable('discovered_machines').set(rejected).where('id', '=', id).execute();
        await decided(tx, request, row, 'rejected');
      });
      return presentDiscovered(await findDiscovered(read, id));
    },
  );

  api.delete(
    '/discovered-machines/:id',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Forget an unknown machine: the next time it boots, it is a new one',
        params: IdParams,
        response: { 204: Type.Null(), ...problems },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      await store.transaction(async (tx) => {
        const row = await notEnrolled(tx, id);
        await tx.deleteFrom('discovered_machines').where('id', '=', id).execute();
        await decided(tx, request, row, 'forgotten');
      });
      return reply.code(204).send(null);
    },
  );
}

/** Errors: `not-found`, `state.conflict`. */
async function notEnrolled(tx: Tx, id: string): Promise<DiscoveredMachineRow> {
  // Written before it is read, so that nobody enrols it meanwhile.
  await tx
    .updateTable('discovered_machines')
    .set((eb) => ({ seen_at: eb.ref('seen_at') }))
    .where('id', '=', id)
    .execute();
  const row = await findDiscovered(tx, id);
  if (row.state !== 'enrolled') return row;
  throw new RackstartError('state.conflict', `It is enrolled, as machine ${row.machine_id ?? '?'}.`);
}

function presentDiscovered(row: DiscoveredMachineRow) {
  const { id, mac, address, subnet_id: subnet, state, reason, machine_id: machine } = row;
  const facts = factsOf(row);
  return {
    ...{ id, mac, address, subnet, state, reason, machine },
    ...{ firstSeenAt: iso(row.first_seen_at), seenAt: iso(row.seen_at), toldAt: maybeIso(row.told_at) },
    facts:
      facts === undefined
        ? null
        : {
            ...facts,
            ...presentFirmware(facts),
            bmcAddress: facts.bmcAddress ?? null,
            dimms: [...(facts.dimms ?? [])],
            disks: facts.disks.map((disk) => ({ ...disk, wear: disk.wear ?? null })),
            nics: facts.nics.map(({ speedMbps = null, neighbour = null, ...nic }) => ({
              ...nic,
              speedMbps,
              neighbour,
            })),
          },
  };
}
