/**
 * `node lab/sim/main.ts FILE`: plugs in the machines that a JSON file (`SimulationSpec`) describes, all in this process, and
 * tells on standard output what they do; SIGTERM unplugs them. Sockets: one for DHCP and one for each relay, one for SSH, one for each
 * BMC, and what machines that are on open for themselves.
 */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { SecureContext } from 'node:tls';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import { openControl } from './control.ts';
import { openBroadcastPort } from './dhcp-port.ts';
import { ForeignDhcp } from './foreign-dhcp.ts';
import type { MachineSpec, SimulationSpec } from './machine-spec.ts';
import { Machine } from './machine.ts';
import { Mains } from './mains.ts';
import { openRelayAgent } from './relay.ts';
import { scaledClock } from './scaled-clock.ts';
import { SshDoor } from './ssh-door.ts';
import { Notebook } from './statistics.ts';

const spec = JSON.parse(await readFile(process.argv[2]!, 'utf8')) as SimulationSpec;
const clock = systemClock;
const notes = new Notebook();
const mains = new Mains();
const door = new SshDoor();
await door.listen();

const broadcast = openBroadcastPort(spec.device, { clock, notes });
const relays = await Promise.all(
  spec.relays.map(
    async (relay) => [relay.address, await openRelayAgent(relay, spec.appliance, { clock, notes })] as const,
  ),
);
const portOf = ({ relay }: MachineSpec) =>
  relay === undefined ? broadcast : new Map(relays).get(relay.address)!.port(relay.circuitId);

// Reading a certificate costs a third of a millisecond: once for all machines that were given the same.
const contexts = new Map<string, SecureContext>();
const trust = (ca: string) => {
  const context = contexts.get(ca) ?? createSecureContext({ ca });
  contexts.set(ca, context);
  return context;
};

const strange = spec.machines.some(({ mishap }) => mishap !== undefined)
  ? await openRelayAgent({ address: '10.80.250.1', remoteId: 'strange' }, spec.appliance, { clock, notes })
  : undefined;
const strays = strange && {
  foreignDhcp: new ForeignDhcp(spec.device, '10.77.255.252'),
  strangeRelay: strange.port('port-1'),
};

const deps = {
  ...(strays && { strays }),
  ...{ seed: spec.seed, rates: spec.faults, clock, pace: scaledClock(clock, spec.speed), ids: createIds(clock) },
  ...{ notes, mains, door, trust, say: (line: string) => console.log(line) },
};
const machines = spec.machines.map((machine) => new Machine(machine, { ...deps, port: portOf(machine) }));
await Promise.all(machines.map((machine) => machine.plugIn()));
const control = await openControl(spec.controlSocket, {
  notes,
  mains,
  fleet: () => ({ machines: machines.length, on: machines.filter((each) => each.power()).length, systems: door.size }),
});
console.log(`${machines.length} machines are plugged in`);

await once(process, 'SIGTERM');
await control.close();
await Promise.all(machines.map((machine) => machine.unplug()));
strays?.foreignDhcp.close();
const relayAgents = [...relays.map(([, relay]) => relay), ...(strange === undefined ? [] : [strange])];
await Promise.all([broadcast, door, ...relayAgents].map((each) => each.close()));
