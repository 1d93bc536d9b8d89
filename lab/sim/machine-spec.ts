import type { BmcFaultRates } from './bmc-server-faults.ts';
import type { FaultRates, Mishap } from './faults.ts';
import type { HardwareModel } from './models.ts';
import type { RelaySpec } from './relay.ts';

/** What a simulated machine is made of, and where its BMC listens. Plain JSON. */
export interface MachineSpec {
  readonly name: string;
  /** Lower case, with colons. */
  readonly mac: string;
  /** SMBIOS UUID, lower case. */
  readonly uuid: string;
  readonly hardware: HardwareModel;
  readonly bmc: {
    readonly address: string;
    readonly port: number;
    readonly username: string;
    readonly password: string;
  };
  /** The relay whose switch it hangs on, by its address, and the port there; without one it broadcasts. */
  readonly relay?: { readonly address: string; readonly circuitId: string };
  /** Its BMC's own; those of the whole fleet unless told. */
  readonly bmcFaults?: BmcFaultRates;
  /** Everything else that may go wrong with it; as in the whole fleet unless told. */
  readonly faults?: FaultRates;
  readonly mishap?: Mishap;
  /** Client system architecture (RFC 4578), where it is not what the firmware says. */
  readonly architecture?: number;
}

/** What the program `main.ts` is given. */
export interface SimulationSpec {
  /** All machines hang on this device, by a cable each. */
  readonly device: string;
  /** The appliance's address, for relays. */
  readonly appliance: string;
  /** Everything that is left to chance follows from it. */
  readonly seed: string;
  /** How many times as fast as real ones the machines do what they do by themselves; network protocols keep real time. */
  readonly speed: number;
  readonly faults: FaultRates;
  readonly relays: readonly RelaySpec[];
  readonly machines: readonly MachineSpec[];
  /** The unix socket that `control.ts` listens on. */
  readonly controlSocket: string;
}
