import { Type } from 'typebox';

import { RackstartError } from '../kernel/errors.ts';
import { openBoot } from '../machines/boot-records.ts';
import { seenInventory } from '../machines/inventory-drift.ts';
import { openIssues } from '../machines/machine-issues.ts';
import type { MachineRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import { Dimms, Wear, firmwareFields, linkFields, presentFirmware } from './hardware-view.ts';
import { Issue, presentIssue } from './machine-issues.ts';
import { Id } from './schemas.ts';

/** A machine as operators see it. */
export const Machine = Type.Object({
  id: Id,
  name: Type.String(),
  rack: Id,
  state: Type.String(),
  diskState: Type.String(),
  quarantineReason: Type.Union([Type.String(), Type.Null()]),
  firmware: Type.Union([Type.String(), Type.Null()]),
  ...firmwareFields,
  vendor: Type.Union([Type.String(), Type.Null()]),
  model: Type.Union([Type.String(), Type.Null()]),
  serial: Type.Union([Type.String(), Type.Null()]),
  uuid: Type.Union([Type.String(), Type.Null()]),
  cores: Type.Union([Type.Integer(), Type.Null()]),
  memoryMib: Type.Union([Type.Integer(), Type.Null()]),
  bmc: Type.Object({ kind: Type.String(), address: Type.String(), port: Type.Integer() }),
  parked: Type.Union([
    Type.Object({
      since: Type.String(),
      seenAt: Type.String(),
      ramdisk: Type.Union([Type.String(), Type.Null()], { description: 'Which ramdisk it waits in.' }),
      image: Type.Union([Type.String(), Type.Null()], {
        description: '`name:version` of what it was told to write to its disk meanwhile.',
      }),
    }),
    Type.Null(),
  ]),
  nics: Type.Array(
    Type.Object({
      mac: Type.String(),
      name: Type.Union([Type.String(), Type.Null()]),
      role: Type.String(),
      address: Type.Union([Type.String(), Type.Null()]),
      switchPort: Type.Union([Type.String(), Type.Null()]),
      link: Type.Union([Type.String(), Type.Null()], { description: 'up, down or gone, as it was seen last.' }),
      ...linkFields,
    }),
  ),
  disks: Type.Array(
    Type.Object({
      name: Type.String(),
      bytes: Type.Integer(),
      type: Type.String(),
      serial: Type.String(),
      model: Type.String(),
      wear: Wear,
    }),
  ),
  dimms: Dimms,
  openIssueCount: Type.Integer({ minimum: 0 }),
  openIssues: Type.Array(Issue, { description: 'What is wrong with it now, the worst first.' }),
});

/** Error: `not-found`. */
export async function findMachine(read: Reader, id: string): Promise<MachineRow> {
  const machine = await read.selectFrom('machines').selectAll().where('id', '=', id).executeTakeFirst();
  if (machine === undefined) throw new RackstartError('not-found', `There is no machine ${id}.`);
  return machine;
}

export async function present(read: Reader, id: string) {
  const machine = await findMachine(read, id);
  const nics = await read
    .selectFrom('machine_nics')
    .leftJoin('addresses', (join) =>
      join.onRef('addresses.holder_id', '=', 'machine_nics.mac').on('addresses.holder_kind', '=', 'nic'),
    )
    .select(['machine_nics.mac', 'machine_nics.name', 'machine_nics.role', 'addresses.address'])
    .select(['machine_nics.switch_port as switchPort', 'machine_nics.link', 'machine_nics.speed_mbps as speedMbps'])
    .where('machine_nics.machine_id', '=', id)
    .orderBy('machine_nics.mac')
    .execute();
  const disks = await read
    .selectFrom('machine_disks')
    .selectAll()
    .where('machine_id', '=', id)
    .orderBy('name')
    .execute();
  const issues = await openIssues(read, id);
  const seen = await seenInventory(read, id);
  return {
    id,
    name: machine.name,
    rack: machine.rack_id,
    state: machine.state,
    diskState: machine.disk_state,
    quarantineReason: machine.quarantine_reason,
    firmware: machine.firmware,
    ...presentFirmware(seen),
    vendor: machine.vendor,
    model: machine.model,
    serial: machine.serial,
    uuid: machine.smbios_uuid,
    cores: machine.cores,
    memoryMib: machine.memory_mib,
    parked: await parkedSince(read, id),
    bmc: { kind: machine.bmc_kind, address: machine.bmc_address, port: machine.bmc_port },
    nics: nics.map((nic) => ({
      ...nic,
      neighbour: seen?.nics.find(({ mac }) => mac === nic.mac)?.neighbour ?? null,
    })),
    disks: disks.map(({ machine_id: _, ...disk }) => ({
      ...disk,
      wear: seen?.disks.find(({ name }) => name === disk.name)?.wear ?? null,
    })),
    dimms: [...(seen?.dimms ?? [])],
    openIssueCount: issues.length,
    openIssues: issues.map(presentIssue),
  };
}

async function parkedSince(read: Reader, id: string) {
  const boot = await openBoot(read, id);
  if (boot?.state !== 'parked') return null;
  const { window_until: since, seen_at: seenAt, ramdisk, order } = boot;
  const image = await read
    .selectFrom('images')
    .select(['name', 'version'])
    .where('id', '=', order.image_id ?? '')
    .executeTakeFirst();
  return {
    ...{ since: new Date(since).toISOString(), seenAt: new Date(seenAt).toISOString(), ramdisk },
    image: image === undefined ? null : `${image.name}:${image.version}`,
  };
}
