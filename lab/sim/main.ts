/**
 * `node lab/sim/main.ts FILE`: plugs in the machines that a JSON file (`SimulationSpec`) describes, all in this process, and
 * tells on standard output what they do; SIGTERM unplugs them.
 */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import { DhcpPort } from './dhcp-port.ts';
import type { SimulationSpec } from './machine-spec.ts';
import { Machine } from './machine.ts';

const { device, firmwareMs, machines: specs } = JSON.parse(await readFile(process.argv[2]!, 'utf8')) as SimulationSpec;
const clock = systemClock;
const port = new DhcpPort(device, clock);
const deps = { port, clock, ids: createIds(clock), firmwareMs, say: (line: string) => console.log(line) };
const machines = specs.map((spec) => new Machine(spec, deps));
await Promise.all(machines.map((machine) => machine.plugIn()));
console.log(`${machines.length} machines are plugged in`);

await once(process, 'SIGTERM');
await Promise.all(machines.map((machine) => machine.unplug()));
await port.close();
