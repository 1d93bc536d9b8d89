import type { Mac } from '../../pxe/boot-client.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Guards } from '../kernel/guard.ts';
import type { Secret } from '../kernel/secret.ts';
import type { MachineRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import type { Bmc, BmcCommandRecord, BmcEndpoint } from './bmc/bmc.ts';
import { guardedBmc, rackOfBmcs } from './bmc/guarded-bmc.ts';

export interface BmcFleetDeps {
  readonly read: Reader;
  /** Of each rack, `bmc:<region>/<rack>`. */
  readonly guards: Guards;
  /** Opens the password that was sealed for this machine. */
  readonly unseal: (machineId: string, sealed: string) => Secret;
  readonly connect: (endpoint: BmcEndpoint, onCommand: (record: BmcCommandRecord) => void) => Bmc;
  /** Every command, for the timeline of the machine that boots from this NIC. */
  readonly onCommand: (mac: Mac, record: BmcCommandRecord) => void;
}

/** One Bmc per machine, kept: it holds the session, the queue and the rate limit. A changed endpoint gets a new one. */
export class BmcFleet {
  readonly #deps: BmcFleetDeps;
  readonly #bmcs = new Map<string, { bmc: Bmc; endpoint: string }>();

  constructor(deps: BmcFleetDeps) {
    this.#deps = deps;
  }

  /** Errors: `not-found`, `key.mismatch` when the password was sealed under an unknown master key. */
  async of(machineId: string): Promise<Bmc> {
    const { read, guards, unseal, connect, onCommand } = this.#deps;
    const machine = await read
      .selectFrom('machines')
      .innerJoin('racks', 'racks.id', 'machines.rack_id')
      .innerJoin('regions', 'regions.id', 'racks.region_id')
      .selectAll('machines')
      .select(['racks.name as rack', 'regions.name as region'])
      .where('machines.id', '=', machineId)
      .executeTakeFirst();
    if (machine === undefined) throw new RackstartError('not-found', `There is no machine ${machineId}.`);
    const { mac } = await read
      .selectFrom('machine_nics')
      .select('mac')
      .where('machine_id', '=', machineId)
      .where('role', '!=', 'customer')
      .executeTakeFirstOrThrow();
    // From here on nothing is awaited until the map is right: two who ask at once share one session.
    const known = this.#bmcs.get(machineId);
    const cluster = `bmc:${machine.region}/${machine.rack}`;
    const endpoint = endpointKey(machine, cluster);
    if (known?.endpoint === endpoint) return known.bmc;
    const connected = connect(endpointOf(machine, unseal), (record) => onCommand(mac as Mac, record));
    const bmc = guardedBmc(connected, guards.of(cluster, rackOfBmcs), machineId);
    this.#bmcs.set(machineId, { bmc, endpoint });
    await known?.bmc.close();
    return bmc;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#bmcs.values()].map(({ bmc }) => bmc.close()));
    this.#bmcs.clear();
  }
}

/** How a machine's BMC is reached. Error: `key.mismatch` when the password was sealed under an unknown master key. */
export function endpointOf(machine: MachineRow, unseal: BmcFleetDeps['unseal']): BmcEndpoint {
  return {
    kind: machine.bmc_kind,
    address: machine.bmc_address,
    port: machine.bmc_port,
    username: machine.bmc_username,
    password: unseal(machine.id, machine.bmc_password),
    cipherSuite: machine.bmc_cipher_suite,
    ...(machine.firmware === null ? {} : { firmware: machine.firmware }),
  };
}

// All that decides whom we talk to, and how; the sealed password stands for the password.
function endpointKey(machine: MachineRow, cluster: string): string {
  const { bmc_kind, bmc_address, bmc_port, bmc_username, bmc_password, bmc_cipher_suite, firmware } = machine;
  return JSON.stringify([
    bmc_kind,
    bmc_address,
    bmc_port,
    bmc_username,
    bmc_password,
    bmc_cipher_suite,
    firmware,
    cluster,
  ]);
}
