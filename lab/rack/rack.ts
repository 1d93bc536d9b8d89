import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { startIpmiSim } from '../bmc/ipmi-sim.ts';
import { onAbruptEnd } from '../process/abrupt-end.ts';
import { isAlive } from '../process/pid.ts';
import { startProcess } from '../process/start.ts';
import { buildMachine, describeMachine } from './machine.ts';
import type { Hardware, MachineSpec } from './machine.ts';
import { addNamespace, namespaceName, removeNamespace, removeOrphans } from './namespace.ts';

export interface RackOptions {
  /** Letters, digits and hyphens. The machines' MACs, UUIDs and serial numbers are derived from it. */
  name: string;
  /** Absolute; takes disks and logs, and outlives the rack: whoever named it removes it. */
  directory: string;
  /** At most 200. */
  machines: readonly MachineSpec[];
}

/** One machine of an open rack: QEMU, switched by nothing but its BMC. */
export interface RackMachine extends Hardware {
  /** An IPMI 2.0 BMC (`ipmi_sim`, cipher suite 3) that listens inside the rack's network. */
  bmc: BmcAccess;
  /** QEMU's process while the machine is on; undefined while it is off. */
  pid(): number | undefined;
}

export interface BmcAccess {
  address: string;
  port: number;
  username: string;
  password: string;
}

/**
 * A rack of real parts in one network namespace: a switch (the bridge `br0`, on which the appliance has its addresses),
 * machines that hang on it, and their BMCs at 10.77.1.N, which only this namespace reaches.
 */
export interface Rack {
  netns: string;
  directory: string;
  bridge: 'br0';
  applianceAddress: { ipv4: '10.77.0.1/24'; ipv6: 'fd77::1/64' };
  machines: readonly RackMachine[];
  /** The command line that runs `argv` inside the rack's network, for `startProcess`, `run` or `spawn`. */
  exec(argv: readonly string[]): string[];
  /** The machine of that name; throws when the rack has none. */
  machine(name: string): RackMachine;
  /** Records packets on the bridge from when this resolves until `stop`: DHCP and TFTP, and the first 600 bytes of each, unless told. */
  capture(pcapFile: string, what?: Captured): Promise<{ stop(): Promise<void> }>;
  /** Has the switch tell each machine by LLDP where it is plugged in, as `SWITCH/tapN`; N counts the machines from 1. */
  speakLldp(switchName: string): Promise<void>;
  /**
   * Switches everything off and removes it: machines, BMCs, captures, whatever else still runs in the namespace, and the
   * namespace. Closing twice is the same as once. The same happens when this process ends without closing.
   */
  close(): Promise<void>;
}

/**
 * Builds a rack whose machines are off, disks empty. Needs root and the Debian packages of `lab/setup.sh`; nothing is
 * left behind when it rejects.
 */
export async function openRack({ name, directory, machines }: RackOptions): Promise<Rack> {
  checkNames(name, machines);
  removeOrphans();
  await mkdir(directory, { recursive: true });
  const netns = namespaceName(name);
  const cancel = onAbruptEnd(() => removeNamespace(netns));
  const stops: (() => Promise<unknown>)[] = [];

  const close = async () => {
    await Promise.all(stops.splice(0).map((stop) => stop()));
    removeNamespace(netns);
    cancel();
  };

  try {
    await addNamespace(netns, wiring(machines.length));
    const built: RackMachine[] = [];
    for (const [index, spec] of machines.entries()) {
      const hardware = describeMachine(name, directory, spec, index + 1);
      const bmc = {
        address: bmcAddress(index),
        port: 623,
        username: 'admin',
        password: randomBytes(8).toString('hex'),
      };
      const serialTcpPort = 9_101 + index;
      await buildMachine(hardware, tapName(index), serialTcpPort);
      const sim = await startIpmiSim({
        ...bmc,
        directory: hardware.directory,
        name: 'bmc',
        netns,
        serialTcpPort,
        chassisControl: `/bin/sh '${chassisControl}' '${hardware.directory}'`,
      });
      stops.push(() => sim.stop());
      built.push({ ...hardware, bmc, pid: () => runningPid(hardware) });
    }
    return {
      netns,
      directory,
      bridge: 'br0',
      applianceAddress: { ipv4: '10.77.0.1/24', ipv6: 'fd77::1/64' },
      machines: built,
      exec: (argv) => inNamespace(netns, argv),
      machine: (wanted) => find(built, wanted),
      async capture(pcapFile, what) {
        const capture = await startCapture(netns, pcapFile, what);
        stops.push(() => capture.stop());
        return capture;
      },
      async speakLldp(switchName) {
        const ports = built.map((_, index) => tapName(index));
        const argv = inNamespace(netns, ['python3', switchPorts, switchName, ...ports]);
        const speaker = await startProcess({ argv, logFile: join(directory, 'lldp.log') });
        stops.push(() => speaker.stop());
        await speaker.line(/^speaking/, 10_000);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

const switchPorts = join(import.meta.dirname, 'switch-ports.py');
const chassisControl = join(import.meta.dirname, 'chassis-control');

// The names end up in file names, in the BMC's configuration and in a shell command.
function checkNames(rack: string, machines: readonly MachineSpec[]): void {
  const names = machines.map(({ name }) => name);
  const bad = [rack, ...names].find((name) => !/^[A-Za-z0-9-]+$/.test(name));
  if (bad !== undefined) throw new Error(`name "${bad}": letters, digits and hyphens only`);
  if (new Set(names).size !== names.length) throw new Error('two machines of one rack cannot have the same name');
  if (machines.length > 200) throw new Error('a rack has at most 200 machines');
}

// The veth pair stands for the switch's uplink: with it the bridge has a carrier, and with that working IPv6 addresses,
// before the first machine is on. A fixed address, because a bridge otherwise takes on that of a new port. Its far end
// must not speak ARP: Linux answers for any address of the host on any device, and packets would come in beside the bridge.
function wiring(machines: number): string[] {
  const ports = Array.from({ length: machines }, (_, index) => [
    `tuntap add dev ${tapName(index)} mode tap`,
    `link set ${tapName(index)} master br0 up`,
    `address add ${bmcAddress(index)}/32 dev lo`,
  ]);
  return [
    'link set lo up',
    'link add br0 address 52:54:00:77:ff:fe type bridge stp_state 0 forward_delay 0',
    'link add uplink type veth peer name uplink-far',
    'link set uplink master br0 up',
    'link set uplink-far arp off up',
    'link set uplink-far addrgenmode none',
    ...ports.flat(),
    'address add 10.77.0.1/24 dev br0',
    'address add fd77::1/64 dev br0 nodad',
    'link set br0 up',
  ];
}

function tapName(index: number): string {
  return `tap${index + 1}`;
}

function bmcAddress(index: number): string {
  return `10.77.1.${index + 1}`;
}

function inNamespace(netns: string, argv: readonly string[]): string[] {
  return ['ip', 'netns', 'exec', netns, ...argv];
}

function find(machines: readonly RackMachine[], name: string): RackMachine {
  const machine = machines.find((each) => each.name === name);
  if (machine === undefined) throw new Error(`this rack has no machine ${name}`);
  return machine;
}

function runningPid({ directory }: Hardware): number | undefined {
  try {
    const pid = Number(readFileSync(join(directory, 'pid'), 'utf8'));
    return isAlive(pid) ? pid : undefined;
  } catch {
    return undefined; // never switched on, or switched off
  }
}

/** What of the packets is recorded. */
export interface Captured {
  /** As tcpdump has it (pcap-filter(7)). */
  readonly filter: string;
  /** Of each packet. */
  readonly bytes: number;
}

const DHCP_AND_TFTP: Captured = { filter: 'udp and (port 67 or port 68 or port 69 or port 4011)', bytes: 600 };

// -Z root: Debian's tcpdump gives up its rights before it opens the file, which then may lie where it cannot write. -B: KiB.
async function startCapture(
  netns: string,
  pcapFile: string,
  { filter, bytes }: Captured = DHCP_AND_TFTP,
): Promise<{ stop(): Promise<void> }> {
  const what = ['-s', String(bytes), '-w', pcapFile, filter];
  const tcpdump = ['tcpdump', '-i', 'br0', '-n', '-U', '-B', '16384', '-Z', 'root', ...what];
  const capture = await startProcess({ argv: inNamespace(netns, tcpdump), logFile: `${pcapFile}.log` });
  await capture.line(/listening on/, 10_000);
  return {
    async stop() {
      await capture.stop();
    },
  };
}
