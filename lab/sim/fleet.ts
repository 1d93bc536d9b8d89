import { createHash } from 'node:crypto';

import type { MachineSpec } from './machine-spec.ts';
import { hardwareModels } from './models.ts';
import type { RelaySpec } from './relay.ts';

/** Where everything of a simulated rack has its address. All of `fleetNetworks` but the appliance's is local to the machines. */
export const fleetNetworks = {
  /** Machines boot, and servers live, here. */
  provisioning: '10.77.0.0/16',
  bmcs: '10.78.0.0/16',
  /** One /24 behind each relay: the nth is 10.80.n.0/24. */
  relayed: '10.80.0.0/16',
} as const;

/** The relays of a rack with so many; the nth stands in for the gateway of its network. */
export function describeRelays(count: number): RelaySpec[] {
  return Array.from({ length: count }, (_, index) => ({
    address: `10.80.${index + 1}.1`,
    remoteId: `relay-${index + 1}`,
  }));
}

/** The machine of this number, from 1: the models in turn, and in turn on the segment itself and behind each relay. */
export function describeMachine(seed: string, number: number, relays: readonly RelaySpec[]): MachineSpec {
  const name = `sim-${number}`;
  const digest = createHash('sha256').update(`${seed}/${name}`).digest('hex');
  const relay = relays[(number % (relays.length + 1)) - 1];
  return {
    name,
    mac: `52:54:00:78:${hex(number >> 8)}:${hex(number & 0xff)}`,
    uuid: digest.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/, '$1-$2-4$3-8$4-$5'), // version 4, RFC 9562 §5.4
    hardware: hardwareModels[(number - 1) % hardwareModels.length]!,
    bmc: {
      address: `10.78.${number >> 8}.${number & 0xff}`,
      port: 623,
      username: 'admin',
      password: digest.slice(-16),
    },
    ...(relay === undefined ? {} : { relay: { address: relay.address, circuitId: `port-${number}` } }),
  };
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}
