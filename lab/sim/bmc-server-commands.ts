import type { SystemEventLog } from './bmc-server-sel.ts';
import type { Answer, SensorRepository } from './bmc-server-sensors.ts';
import type { WatchdogTimer } from './bmc-server-watchdog.ts';
import type { SerialLine, SerialOverLan, SolSession } from './bmc-server-sol.ts';

/** The machine behind a simulated BMC. What it says and what it does may differ: BMCs lie. */
export interface SimulatedChassis {
  /** What the BMC says when asked. */
  power(): boolean;
  setPower(on: boolean): void;
  reset(): void;
  /** What the BMC reads back: the five bytes of boot flags (IPMI 2.0 §28.13, parameter 5). */
  bootFlags(): Buffer;
  setBootFlags(flags: Buffer): void;
  /** Its serial port; the BMC of a machine without one has no serial-over-LAN. */
  readonly serial?: SerialLine;
}

/** What one BMC is made of. */
export interface BmcParts {
  readonly chassis: SimulatedChassis;
  readonly sensors: SensorRepository;
  readonly log: SystemEventLog;
  readonly sol: SerialOverLan;
  readonly watchdog: WatchdogTimer;
}

/** How a BMC goes wrong with the command that it carries out. */
export interface CommandFaults {
  readonly liesAboutPower: boolean;
  readonly dropsBootFlags: boolean;
}

/**
 * Completion code and data of the answer. Commands this BMC does not know end with 0xc1. `session` is the one they came in;
 * undefined outside of any.
 */
export function runBmcCommand(
  netFn: number,
  command: number,
  data: Buffer,
  { chassis, sensors, log, sol, watchdog }: BmcParts,
  session: SolSession | undefined,
  faults: CommandFaults,
): Answer {
  switch (`${hex(netFn)} ${hex(command)}`) {
    case '00 01':
      return [OK, chassis.power() === faults.liesAboutPower ? 0x20 : 0x21, 0, 0x40];
    case '00 02':
      return control(data[0], chassis, log);
    case '00 08':
      return setBootOption(data, chassis, faults);
    case '00 09':
      return data[0] === 5 ? [OK, 1, 5, ...chassis.bootFlags()] : [0x80];
    case '06 01':
      return [OK, 0, 0x03, 0x09, 0x08, 0x02, 0x9f, 0x91, 0x12, 0x00, 0x02, 0x0f];
    case '06 37':
      return [OK, ...Buffer.from('a123456789abcdefa123456789abcde1', 'hex')];
    case '06 38':
      return [OK, 1, 0x80, 0x04, 0x02, 0, 0, 0, 0];
    case '06 3b':
      return [OK, data[0] ?? 0];
    case '06 3c':
      return [OK];
    default:
      return (
        sensors.run(netFn, command, data) ??
        (netFn === STORAGE ? log.run(command, data) : sol.run(netFn, command, data, session)) ??
        (netFn === APPLICATION ? watchdog.run(command, data) : undefined) ?? [0xc1]
      );
  }
}

const OK = 0x00;
const APPLICATION = 0x06;
const STORAGE = 0x0a;

function control(action: number | undefined, chassis: SimulatedChassis, log: SystemEventLog): Answer {
  if (action === 0 || action === 1) {
    const changes = chassis.power() !== (action === 1);
    chassis.setPower(action === 1);
    if (changes) log.powerChanged(action === 1);
  } else if (action === 3 && !chassis.power()) return [0xd5];
  else if (action === 3) chassis.reset();
  else return [0xcc];
  return [OK];
}

function setBootOption(data: Buffer, chassis: SimulatedChassis, { dropsBootFlags }: CommandFaults): Answer {
  if (data[0] !== 5) return [0x80];
  if (data.length !== 6) return [0xc7];
  if (!dropsBootFlags) chassis.setBootFlags(data.subarray(1));
  return [OK];
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}
