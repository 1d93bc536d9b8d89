/** What a simulated machine is made of, and where its BMC listens. Plain JSON. */
export interface MachineSpec {
  readonly name: string;
  /** Lower case, with colons. */
  readonly mac: string;
  /** SMBIOS UUID, lower case. */
  readonly uuid: string;
  readonly firmware: 'bios' | 'uefi';
  readonly cores: number;
  readonly memoryMib: number;
  readonly diskGib: number;
  readonly bmc: {
    readonly address: string;
    readonly port: number;
    readonly username: string;
    readonly password: string;
  };
}

/** What the program `main.ts` is given: machines that hang on one device, by a cable each. */
export interface SimulationSpec {
  readonly device: string;
  /** From power-on to the first DHCP packet, ms: memory training and option ROMs. */
  readonly firmwareMs: number;
  readonly machines: readonly MachineSpec[];
}
