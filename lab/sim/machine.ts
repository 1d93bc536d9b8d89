import { SECOND } from '../../appliance/kernel/clock.ts';
import { draw } from '../../appliance/kernel/seeded.ts';
import type { BmcServer } from './bmc-server.ts';
import { startBmcServer } from './bmc-server.ts';
import type { SimulatedChassis } from './bmc-server-commands.ts';
import { seededBmcFaults } from './bmc-server-faults.ts';
import { SerialPort } from './bmc-server-sol.ts';
import type { Strays, Surroundings } from './boot.ts';
import { Boot } from './boot.ts';
import type { DhcpPort } from './dhcp-port.ts';
import type { FaultRates } from './faults.ts';
import { bootFaults } from './faults.ts';
import type { InstalledDisk } from './installed-system.ts';
import { runSystem } from './installed-system.ts';
import type { MachineSpec } from './machine-spec.ts';
import type { Mains } from './mains.ts';
import { bmcFaultsOf, mishapOf, printAndStop, withMishap, withRates } from './mishaps.ts';
import { bootFromNetwork } from './network-boot.ts';
import type { RamdiskEnd } from './ramdisk.ts';
import { runRamdisk } from './ramdisk.ts';
import { Wire } from './wire.ts';

export interface MachineDeps extends Surroundings {
  readonly port: DhcpPort;
  readonly rates: FaultRates;
  readonly mains: Mains;
  readonly strays?: Strays;
  readonly say: (line: string) => void;
}

/**
 * A machine with its BMC, off until the BMC is told otherwise. What it does once it is on, it does over real sockets. One that is off
 * holds its BMC's socket, what is on its disk, and nothing else.
 */
export class Machine implements SimulatedChassis {
  readonly #spec: MachineSpec;
  readonly #deps: MachineDeps;
  /** Prints the machine's story, for who listens by serial-over-LAN. */
  readonly serial = new SerialPort();
  #bmc: BmcServer | undefined;
  /** Cut when the power goes; undefined while the machine is off. */
  #power: AbortController | undefined;
  #boots = 0;
  #flags = Buffer.alloc(5);
  #disk: InstalledDisk | undefined;

  constructor(spec: MachineSpec, deps: MachineDeps) {
    this.#spec = spec;
    this.#deps = deps;
  }

  /** Plugs it in: from here on its BMC listens. */
  async plugIn(): Promise<void> {
    const { name, bmc, mishap, bmcFaults = this.#rates.bmc } = this.#spec;
    const { seed, clock } = this.#deps;
    const seeded = bmcFaults && seededBmcFaults((...names) => draw(seed, name, ...names), bmcFaults, clock);
    const faults = bmcFaultsOf(this.#spec) ?? seeded;
    const password = mishap === 'bmc-password' ? 'changed by hand' : bmc.password;
    this.#bmc = await startBmcServer({ ...bmc, password, chassis: this, ...(faults && { faults }) });
  }

  async unplug(): Promise<void> {
    this.setPower(false);
    await this.#bmc?.stop();
  }

  get #rates(): FaultRates {
    return this.#spec.faults ?? this.#deps.rates;
  }

  power(): boolean {
    return this.#power !== undefined;
  }

  setPower(on: boolean): void {
    if (on === this.power() || this.#spec.mishap === 'power-dead') return;
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
    this.#flags = Buffer.alloc(5, flags); // of its own: from the pool, each machine would keep 64 KiB
  }

  #cut(): void {
    this.#power?.abort(new Error('the power went off'));
    this.#power = undefined;
  }

  #start(): void {
    const power = new AbortController();
    this.#power = power;
    const { notes, say } = this.#deps;
    this.#live(power).then(
      (end) => notes.count(`end: ${end}`),
      (error: unknown) => {
        if (!power.signal.aborted) say(`${this.#spec.name}: ${String(error)}`);
        notes.count(power.signal.aborted ? 'end: power off' : 'end: broken');
      },
    );
  }

  /** From its power-on to the end of its doings; rejects when the power goes before. */
  async #live(power: AbortController): Promise<string> {
    const { signal } = power;
    const fromNetwork = isPxe(this.#flags);
    this.#flags = Buffer.alloc(5); // valid for one boot
    const boot = this.#boot(power);
    const { say } = boot.deps;
    await this.#deps.mains.wait(signal);
    say(`power on, boots from ${fromNetwork ? 'the network' : 'its disk'}`);
    await boot.enter('post');
    const { mishap } = boot.deps;
    if (mishap === 'boots-disk' || mishap === 'no-link') return printAndStop(boot, mishap);
    let end = fromNetwork ? await this.#fromNetwork(boot) : undefined;
    while (end === undefined) {
      if (this.#disk !== undefined) return runSystem(this.#disk, boot);
      say('no bootable device: going through the boot order again');
      await boot.enter('retry');
      end = await this.#fromNetwork(boot);
    }
    if (end.kind === 'installed') {
      this.#disk = end.disk;
      return runSystem(end.disk, boot);
    }
    say('the appliance ended this boot: powering off');
    boot.deps.powerOff();
    return 'cut off by the appliance';
  }

  /** Undefined when the firmware is to go on with the disk. */
  async #fromNetwork(boot: Boot): Promise<RamdiskEnd | undefined> {
    const { say, signal } = boot.deps;
    const start = await bootFromNetwork(boot).catch((error: unknown) => {
      signal.throwIfAborted();
      this.#deps.notes.count('failed: network boot');
      return String(error);
    });
    if (typeof start !== 'string') return runRamdisk(start, boot, () => (this.#disk = undefined));
    say(`boots from its disk: ${start}`);
    return undefined;
  }

  #boot(power: AbortController): Boot {
    const { seed, clock, notes, port, strays, say } = this.#deps;
    const { name } = this.#spec;
    const number = ++this.#boots;
    const mishap = mishapOf(this.#spec, number);
    const rates = withRates(this.#rates, mishap);
    const print = (line: string) => this.serial.print(`${line}\r\n`);
    return new Boot({
      ...this.#deps,
      ...{ machine: withMishap(this.#spec, mishap), number, mishap, strays, print },
      port: mishap === 'strange-relay' && strays !== undefined ? strays.strangeRelay : port,
      faults: bootFaults(seed, rates, name, number),
      wire: new Wire(`${name}/${number}`, {
        ...{ seed, clock, rates: rates.packets ?? {} },
        onFault: (fault) => notes.count(`fault: packet ${fault}`),
      }),
      say: (line) => {
        say(`${name}: ${line}`);
        print(line);
      },
      listened: async () => {
        const until = clock.now() + 8 * SECOND;
        while (!this.serial.listened && clock.now() < until) await clock.sleepUntil(clock.now() + 100, power.signal);
      },
      powerOff: () => {
        if (this.#power === power) this.#cut();
      },
      signal: power.signal,
    });
  }
}

// IPMI 2.0 §28.13, parameter 5: bit 7 of the first byte is "valid", bits 5 to 2 of the second are the device.
function isPxe(flags: Buffer): boolean {
  return (flags.readUInt8(0) & 0x80) !== 0 && (flags.readUInt8(1) & 0x3c) >> 2 === 1;
}
