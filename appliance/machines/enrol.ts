import type { DiskRule } from '../../scheduler/disk-plan.ts';
import type { Mac } from '../../pxe/boot-client.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Secret } from '../kernel/secret.ts';
import { holdAddress } from '../network/ipam.ts';
import type { MachineNicRow, MachineRow, SubnetRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import { claimDiscovered } from './enrolment/own-rows.ts';

export interface NewMachine {
  readonly name: string;
  readonly rackId: string;
  readonly bmc: {
    readonly kind: MachineRow['bmc_kind'];
    readonly address: string;
    readonly port: number;
    readonly username: string;
    readonly password: Secret;
    readonly cipherSuite: 3 | 17;
  };
  /** The first NIC is the one that boots by PXE. */
  readonly nics: readonly { readonly mac: Mac; readonly role: MachineNicRow['role']; readonly switchPort?: string }[];
  /** Of its root, whatever a flavor says besides. */
  readonly diskRule: DiskRule;
}

export interface EnrolDeps {
  readonly events: EventLog;
  readonly ids: Ids;
  /** Seals a BMC's password for this machine and no other. */
  readonly seal: (machineId: string, password: Secret) => string;
}

/**
 * Writes a machine down, unseen so far, and reserves the address of its provisioning NIC for as long as it is known.
 * Errors: `request.invalid` naming the field when the rack is unknown, a name, MAC or BMC address is taken, or no NIC
 * provisions; `address.pool-empty`.
 */
export async function enrolMachine(
  tx: Tx,
  { events, ids, seal }: EnrolDeps,
  machine: NewMachine,
  { actor, origin, at }: { actor: string; origin?: string | undefined; at: Millis },
): Promise<string> {
  const rack = await tx.selectFrom('racks').selectAll().where('id', '=', machine.rackId).executeTakeFirst();
  if (rack === undefined) throw invalid('/rack', 'There is no such rack.');
  const boots = machine.nics.find(({ role }) => role !== 'customer');
  if (boots === undefined) throw invalid('/nics', 'One NIC must have the role provisioning or both.');
  await refuseTaken(tx, machine);

  const id = ids.next('mch');
  await tx
    .insertInto('machines')
    .values({
      id,
      name: machine.name,
      rack_id: rack.id,
      state: 'enrolled',
      // What is on the disk now is the operator's own, and no tenant's: only an order of theirs wipes it.
      disk_state: 'clean',
      quarantine_reason: null,
      generation: 0,
      firmware: null,
      vendor: null,
      model: null,
      serial: null,
      smbios_uuid: null,
      cores: null,
      memory_mib: null,
      bmc_kind: machine.bmc.kind,
      bmc_address: machine.bmc.address,
      bmc_port: machine.bmc.port,
      bmc_username: machine.bmc.username,
      bmc_password: seal(id, machine.bmc.password),
      bmc_cipher_suite: machine.bmc.cipherSuite,
      disk_rule: JSON.stringify(machine.diskRule),
      created_at: at,
      updated_at: at,
    })
    .execute();
  await tx
    .insertInto('machine_nics')
    .values(
      machine.nics.map(({ mac, role, switchPort = null }) => {
        return { mac, machine_id: id, name: null, role, speed_mbps: null, switch_port: switchPort };
      }),
    )
    .execute();
  await claimDiscovered(
    tx,
    machine.nics.map(({ mac }) => mac),
    id,
  );
  const subnet = await provisioningSubnet(tx, rack.region_id);
  await holdAddress(tx, subnet, 'reservations', { kind: 'nic', id: boots.mac, tenantId: null }, at);
  await events.append(tx, 'machine.enrolled', { key: id, actor, origin, data: { machineId: id, name: machine.name } });
  return id;
}

/** The network on which a region's machines boot. Errors: `request.invalid` about `/rack` when there is none. */
async function provisioningSubnet(read: Reader, regionId: string): Promise<SubnetRow> {
  const subnet = await read
    .selectFrom('subnets')
    .selectAll()
    .where('region_id', '=', regionId)
    .where('family', '=', 4)
    .where('role', 'in', ['provisioning', 'both'])
    .executeTakeFirst();
  if (subnet === undefined) {
    const message = "This rack's region has no provisioning subnet; add one first.";
    throw new RackstartError('request.invalid', message, { fields: [{ field: '/rack', message }] });
  }
  return subnet;
}

async function refuseTaken(tx: Tx, { name, bmc, nics }: NewMachine): Promise<void> {
  const sameName = await tx.selectFrom('machines').select('id').where('name', '=', name).executeTakeFirst();
  if (sameName !== undefined) throw invalid('/name', 'Another machine has this name.');
  const sameBmc = await tx
    .selectFrom('machines')
    .select('name')
    .where('bmc_address', '=', bmc.address)
    .where('bmc_port', '=', bmc.port)
    .executeTakeFirst();
  if (sameBmc !== undefined) throw invalid('/bmc/address', `Machine ${sameBmc.name} has this BMC.`);
  const macs = nics.map(({ mac }) => mac);
  const sameMac = await tx.selectFrom('machine_nics').select('mac').where('mac', 'in', macs).executeTakeFirst();
  if (sameMac !== undefined) throw invalid('/nics', `Another machine has the MAC ${sameMac.mac}.`);
}

function invalid(field: string, message: string): RackstartError {
  return new RackstartError('request.invalid', message, { fields: [{ field, message }] });
}
