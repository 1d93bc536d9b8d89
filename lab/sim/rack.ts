import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { onAbruptEnd } from '../process/abrupt-end.ts';
import { run } from '../process/run.ts';
import { startProcess } from '../process/start.ts';
import { addNamespace, namespaceName, removeNamespace } from '../rack/namespace.ts';
import type { Rack } from '../rack/rack.ts';
import { openRack } from '../rack/rack.ts';
import type { MachineSpec, SimulationSpec } from './machine-spec.ts';

export interface SimulatedRackOptions {
  /** Letters, digits and hyphens. */
  readonly name: string;
  /** Takes logs; whoever named it removes it. */
  readonly directory: string;
  /** At most 200; the nth has n cores, so that an order of n cores fits it best. */
  readonly machines: number;
  readonly firmwareMs: number;
}

/** A rack whose machines are simulated, by one process in a network namespace of their own. */
export interface SimulatedRack {
  /** The appliance's side: the switch, and no machine of its own. */
  readonly rack: Rack;
  readonly machines: readonly MachineSpec[];
  /** Removes everything, as it also goes when this process ends without closing. */
  close(): Promise<void>;
}

/** Rejects with nothing left behind. Needs root. */
export async function openSimulatedRack(options: SimulatedRackOptions): Promise<SimulatedRack> {
  const { name, directory, machines: count, firmwareMs } = options;
  const machines = Array.from({ length: count }, (_, index) => describeMachine(name, index + 1));
  const rack = await openRack({ name, directory, machines: [] });
  const netns = namespaceName(`${name}-machines`);
  const cancel = onAbruptEnd(() => removeNamespace(netns));
  let stop: () => Promise<unknown> = () => Promise.resolve();
  const close = async () => {
    await stop();
    removeNamespace(netns);
    cancel();
    await rack.close();
  };
  try {
    await addNamespace(netns, ['link set lo up']);
    await plugIn(rack, netns);
    const spec: SimulationSpec = { device: DEVICE, firmwareMs, machines };
    const file = join(directory, 'simulation.json');
    writeFileSync(file, JSON.stringify(spec), { mode: 0o600 });
    const simulation = await startProcess({
      argv: ['ip', 'netns', 'exec', netns, process.execPath, join(import.meta.dirname, 'main.ts'), file],
      logFile: join(directory, 'simulation.log'),
    });
    stop = () => simulation.stop();
    await simulation.line(/machines are plugged in/, 20_000);
    return { rack, machines, close };
  } catch (error) {
    await close();
    throw error;
  }
}

const DEVICE = 'nics';

/**
 * One cable for all machines, from their namespace to the rack's switch. Not in the rack's own namespace: there the kernel
 * would drop what comes from its own addresses, and carry TCP past the switch. Every address of both networks, those of
 * machines and BMCs, is local here but for the appliance's: so none has to be added when a machine gets it.
 */
async function plugIn({ netns: rack, bridge, applianceAddress }: Rack, netns: string): Promise<void> {
  const [appliance = ''] = applianceAddress.ipv4.split('/');
  const atSwitch = [
    `link add port type veth peer name ${DEVICE} netns ${netns}`,
    `link set port master ${bridge} up`,
    `route add 10.77.1.0/24 dev ${bridge}`,
  ];
  const atMachines = [
    `link set ${DEVICE} addrgenmode none up`,
    `route add local 10.77.0.0/23 dev lo table local`,
    `route add ${appliance}/32 dev ${DEVICE} table local`,
  ];
  await run(['ip', '-n', rack, '-batch', '-'], { input: atSwitch.join('\n') + '\n' });
  await run(['ip', '-n', netns, '-batch', '-'], { input: atMachines.join('\n') + '\n' });
}

function describeMachine(rack: string, number: number): MachineSpec {
  const name = `sim-${number}`;
  const digest = createHash('sha256').update(`${rack}/${name}`).digest('hex');
  return {
    name,
    mac: `52:54:00:78:00:${number.toString(16).padStart(2, '0')}`,
    uuid: digest.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/, '$1-$2-4$3-8$4-$5'), // version 4, RFC 9562 §5.4
    firmware: number % 2 === 0 ? 'uefi' : 'bios',
    cores: number,
    memoryMib: 4_096,
    diskGib: 16,
    bmc: { address: `10.77.1.${number}`, port: 623, username: 'admin', password: digest.slice(-16) },
  };
}
