import type { Json, Millis } from './column-types.ts';

/** A row of the manifest: a machine that is expected, known by the serial number that its firmware tells. */
export interface ExpectedMachineRow {
  id: string;
  serial: string;
  /** What it is called once it is enrolled. */
  name: string;
  rack_id: string;
  /** Of the rack, counted from the bottom. */
  unit: number;
  bmc_kind: 'ipmi' | 'ipmitool';
  bmc_address: string;
  bmc_port: number;
  bmc_username: string;
  /** Sealed for this row, as a machine's is for the machine. */
  bmc_password: string;
  bmc_cipher_suite: 3 | 17;
  /** Of the NIC that it boots from. */
  nic_role: 'provisioning' | 'both';
  /** What its switch says of itself by LLDP there, `sw-7/eth3`; null: nobody said. */
  switch_port: string | null;
  /** The machine that was enrolled by this row, or that was there before it. */
  machine_id: string | null;
  created_at: Millis;
  updated_at: Millis;
}

/** A machine that nobody had enrolled, and that booted from the network: one row for each NIC that such a machine booted from. */
export interface DiscoveredMachineRow {
  id: string;
  /** Of the NIC that it booted from. */
  mac: string;
  /** Where it booted, and the address that it had leased there. */
  subnet_id: string;
  address: string;
  /**
   * `inspecting` from its claim until it has told of itself; `waiting` for a row, a rule or an operator; `rejected` by an operator,
   * and left alone from then on; `enrolled` as `machine_id`.
   */
  state: 'inspecting' | 'waiting' | 'rejected' | 'enrolled';
  /** Why it waits. */
  reason: string | null;
  /** SHA-256 of the nonce of its last claim, hex. */
  nonce_hash: string;
  /** Counts its claims. */
  generation: number;
  /** As it says of itself: of no worth but to be held against what is known. */
  uuid: string | null;
  serial: string | null;
  /** JSON: `Inspection` of pxe/boot-plan; null until it has told. */
  facts: Json | null;
  machine_id: string | null;
  first_seen_at: Millis;
  claimed_at: Millis;
  seen_at: Millis;
  told_at: Millis | null;
}

/** What a machine is made of: as it is known to be good, and as its last inspection has seen it. JSON: `Inspection` of pxe/boot-plan. */
export interface MachineInventoryRow {
  machine_id: string;
  good: Json;
  good_at: Millis;
  seen: Json;
  seen_at: Millis;
}

/** A rule by which machines are enrolled that nobody listed: all that it names must hold. */
export interface AcceptRuleRow {
  id: string;
  name: string;
  /** Where they stand. */
  rack_id: string;
  /** How the MAC begins: `52:54:00`. */
  mac_prefix: string | null;
  /** What the firmware calls maker and model of the machine; `*` is any text. */
  vendor: string | null;
  model: string | null;
  /** What the firmware says of itself, in the same way. */
  firmware_vendor: string | null;
  firmware_version: string | null;
  subnet_id: string | null;
  /** What the switch says of itself by LLDP where the machine boots, in the same way: `leaf-3/*`. */
  switch_port: string | null;
  /** What they are called: this and their serial number. */
  name_prefix: string;
  nic_role: 'provisioning' | 'both';
  /** The BMC's address is believed within this network alone, since the password is sent there. */
  bmc_network: string;
  bmc_kind: 'ipmi' | 'ipmitool';
  bmc_port: number;
  bmc_username: string;
  /** Sealed for this rule. */
  bmc_password: string;
  bmc_cipher_suite: 3 | 17;
  created_at: Millis;
}
