import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import type { Answer } from './bmc-server-sensors.ts';

interface Resettable {
  power(): boolean;
  reset(): void;
}

/** The watchdog timer of a BMC (IPMI 2.0 §27); it can do nothing to the machine, or reset it. */
export class WatchdogTimer {
  readonly #chassis: Resettable;
  readonly #clock: Clock;
  #set = { use: 0, action: 0, countdown: 0 };
  #isSet = false;
  #expired = 0;
  #startedAt: Millis | undefined;
  #stopping = new AbortController();

  constructor(chassis: Resettable, clock: Clock) {
    this.#chassis = chassis;
    this.#clock = clock;
  }

  /** Network function "application" (0x06); undefined for a command that is not of the timer. */
  run(command: number, data: Buffer): Answer | undefined {
    switch (command) {
      case 0x22:
        return this.#start();
      case 0x24:
        return this.#setTimer(data);
      case 0x25:
        return this.#told();
      default:
        return undefined;
    }
  }

  stop(): void {
    this.#stopping.abort();
    this.#stopping = new AbortController();
    this.#startedAt = undefined;
  }

  #start(): Answer {
    if (!this.#isSet) return [NOT_INITIALIZED];
    this.stop();
    this.#startedAt = this.#clock.now();
    const at = this.#startedAt + this.#set.countdown * TENTH;
    this.#clock.sleepUntil(at, this.#stopping.signal).then(
      () => this.#expire(),
      () => undefined,
    );
    return [OK];
  }

  #setTimer(data: Buffer): Answer {
    if (data.length !== 6) return [WRONG_LENGTH];
    const [use, action] = [data.readUInt8(0) & 0x07, data.readUInt8(1) & 0x77];
    if (use === 0 || use > 5 || action > RESET) return [INVALID];
    if ((data.readUInt8(0) & DONT_STOP) === 0) this.stop();
    this.#set = { use, action, countdown: data.readUInt16LE(4) };
    this.#isSet = true;
    this.#expired &= ~data.readUInt8(3);
    return [OK];
  }

  #told(): Answer {
    const { use, action, countdown } = this.#set;
    const running = this.#startedAt !== undefined;
    const left = running ? countdown - Math.floor((this.#clock.now() - (this.#startedAt ?? 0)) / TENTH) : countdown;
    const counts = [countdown, Math.max(0, left)].flatMap((count) => [count & 0xff, count >> 8]);
    return [OK, use | (running ? RUNNING : 0), action, 0, this.#expired, ...counts];
  }

  #expire(): void {
    this.#startedAt = undefined;
    this.#expired |= 1 << this.#set.use;
    if (this.#set.action === RESET && this.#chassis.power()) this.#chassis.reset();
  }
}

const TENTH: Millis = 100;
const RUNNING = 0x40;
const DONT_STOP = 0x40;
const RESET = 1;

const OK = 0x00;
const NOT_INITIALIZED = 0x80;
const WRONG_LENGTH = 0xc7;
const INVALID = 0xcc;
