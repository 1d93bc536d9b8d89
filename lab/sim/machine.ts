import type { Clock } from '../../appliance/kernel/clock.ts';
import type { Ids } from '../../appliance/kernel/ids.ts';
import { demand } from './ask.ts';
import type { BmcServer } from './bmc-server.ts';
import { startBmcServer } from './bmc-server.ts';
import type { SimulatedChassis } from './bmc-server-commands.ts';
import { pinnedCa, readBootScript } from './boot-script.ts';
import type { DhcpPort } from './dhcp-port.ts';
import { leaseAddress } from './firmware.ts';
import type { MachineSpec } from './machine-spec.ts';
import { runRamdisk } from './ramdisk.ts';

export interface MachineDeps {
  readonly port: DhcpPort;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly firmwareMs: number;
  readonly say: (line: string) => void;
}

/** A machine with its BMC, off until the BMC is told otherwise. What it does once it is on, it does over real sockets. */
export class Machine implements SimulatedChassis {
  readonly #spec: MachineSpec;
  readonly #deps: MachineDeps;
  #bmc: BmcServer | undefined;
  /** Cut when the power goes; undefined while the machine is off. */
  #power: AbortController | undefined;
  #flags = Buffer.alloc(5);

  constructor(spec: MachineSpec, deps: MachineDeps) {
    this.#spec = spec;
    this.#deps = deps;
  }

  /** Plugs it in: from here on its BMC listens. */
  async plugIn(): Promise<void> {
    this.#bmc = await startBmcServer({ ...this.#spec.bmc, chassis: this });
  }

  async unplug(): Promise<void> {
    this.setPower(false);
    await this.#bmc?.stop();
  }

  power(): boolean {
    return this.#power !== undefined;
  }

  setPower(on: boolean): void {
    if (on === this.power()) return;
    if (on) this.#start();
    else this.#cut();
  }

  reset(): void {
    this.#cut();
    this.#start();
  }

  bootFlags(): Buffer {
    return this.#flags;
  }

  setBootFlags(flags: Buffer): void {
    this.#flags = Buffer.from(flags);
  }

  #cut(): void {
    this.#power?.abort(new Error('the power went off'));
    this.#power = undefined;
  }

  #start(): void {
    const power = new AbortController();
    this.#power = power;
    const fromNetwork = isPxe(this.#flags);
    this.#flags = Buffer.alloc(5); // valid for one boot
    const say = (line: string) => this.#deps.say(`${this.#spec.name}: ${line}`);
    say(`power on, boots from ${fromNetwork ? 'the network' : 'its disk'}`);
    if (!fromNetwork) return;
    bootFromNetwork(this.#spec, { ...this.#deps, say }, power.signal).then(say, (error: unknown) =>
      say(power.signal.aborted ? 'power off' : `boot failed: ${String(error)}`),
    );
  }
}

/** A machine's life from its power-on to the end of its ramdisk: ROM, iPXE, script, ramdisk. Says how it ended. */
async function bootFromNetwork(machine: MachineSpec, deps: MachineDeps, signal: AbortSignal): Promise<string> {
  const { clock, firmwareMs } = deps;
  await clock.sleepUntil(clock.now() + firmwareMs, signal);
  const rom = await leaseAddress('rom', machine, deps, signal);
  if (rom.bootFile === undefined) return 'DHCP names no loader';
  const { address, bootFile: scriptUrl } = await leaseAddress('ipxe', machine, deps, signal);
  if (scriptUrl === undefined) return 'DHCP names no script';

  const from = { from: address, signal };
  const boot = readBootScript((await demand(scriptUrl, from)).toString());
  if (boot === undefined) return 'the script leads to the disk';
  const ca = pinnedCa(await demand(boot.initrdUrl, from));
  return runRamdisk(boot, machine, { ...deps, address, ca }, signal);
}

// IPMI 2.0 §28.13, parameter 5: bit 7 of the first byte is "valid", bits 5 to 2 of the second are the device.
function isPxe(flags: Buffer): boolean {
  return (flags.readUInt8(0) & 0x80) !== 0 && (flags.readUInt8(1) & 0x3c) >> 2 === 1;
}
