import type { Bmc, BmcIdentity, BootDevice, HardwareFault, LoggedFaults, PowerState, Watchdog } from './bmc/bmc.ts';

/** A double of a BMC, in memory: it remembers the power and a one-shot boot device, and gives its machine power and takes it. */
export abstract class RackBmc implements Bmc {
  state: 'on' | 'off' = 'off';
  override: BootDevice | undefined;
  /** Commands that it obeyed. */
  readonly commands: string[] = [];
  /** What it has recorded, by rising ids: faults, and what is none. */
  readonly eventLog: (HardwareFault | { readonly record: number })[] = [];
  /** Its watchdog timer, and what that would do. */
  timer: Watchdog = { armed: false, fired: false, unfedFor: 0 };
  watchdogAction: 'none' | 'reset' = 'none';
  /** Asked before it reads its event log: throwing is its failure. */
  atEventLog: () => void | Promise<void> = () => undefined;
  /** Asked before it obeys: throwing is its failure. */
  atCommand: (command: string) => void | Promise<void> = () => undefined;
  /** Told after it has obeyed. */
  onCommand: (command: string) => void | Promise<void> = () => undefined;

  /** The machine starts, from `device` when it was told to. */
  protected abstract gotPower(device: BootDevice | undefined): void;
  protected abstract lostPower(): void;

  async power(): Promise<PowerState> {
    await this.#obey('read power', () => undefined);
    return this.state;
  }

  async setPower(want: 'on' | 'off' | 'reset'): Promise<void> {
    await this.#obey(`power ${want}`, () => {
      if (want === 'off') this.#switchOff();
      else if (want === 'reset' || this.state === 'off') this.#start();
    });
  }

  async bootOnce(device: BootDevice): Promise<void> {
    await this.#obey(`boot ${device} once`, () => (this.override = device));
  }

  async bootOnceAndReset(device: BootDevice): Promise<void> {
    await this.#obey(`boot ${device} once and reset`, () => {
      this.override = device;
      this.#start();
    });
  }

  async clearBootOverride(): Promise<void> {
    await this.#obey('clear boot override', () => (this.override = undefined));
  }

  identity(): Promise<BmcIdentity> {
    return Promise.resolve({ manufacturerId: 0, productId: 0, firmware: '1.00' });
  }

  async newestEvent(): Promise<number> {
    await this.atEventLog();
    return this.eventLog.at(-1)?.record ?? 0;
  }

  async faultsSince(after: number): Promise<LoggedFaults> {
    await this.atEventLog();
    const behind = this.eventLog.filter(({ record }) => record > after);
    const read = behind.slice(0, EVENTS_AT_ONCE);
    const faults = read.filter((entry) => 'part' in entry);
    return { faults, upTo: read.at(-1)?.record ?? after, isWhole: read.length === behind.length };
  }

  async watchdog(): Promise<Watchdog> {
    await this.#obey('read watchdog', () => undefined);
    return this.timer;
  }

  async stopWatchdog(then: 'none' | 'reset'): Promise<void> {
    await this.#obey(`stop watchdog, then ${then}`, () => {
      this.timer = { armed: false, fired: false, unfedFor: 0 };
      this.watchdogAction = then;
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Somebody presses the button: no BMC of ours knows of it. */
  restart(device?: BootDevice): void {
    this.override = device;
    this.#start();
  }

  async #obey(command: string, effect: () => void): Promise<void> {
    await this.atCommand(command);
    effect();
    this.commands.push(command);
    await this.onCommand(command);
  }

  #switchOff(): void {
    this.state = 'off';
    this.lostPower();
  }

  #start(): void {
    this.#switchOff();
    this.state = 'on';
    const device = this.override;
    this.override = undefined;
    this.gotPower(device);
  }
}

const EVENTS_AT_ONCE = 8;
