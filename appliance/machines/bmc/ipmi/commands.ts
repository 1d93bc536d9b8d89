/** The commands we send, one function each: the request, and how to read its answer. Pure. */
import type { Millis } from '../../../kernel/clock.ts';
import type { BmcEndpoint, BmcIdentity, BootDevice, WatchdogAction } from '../bmc.ts';
import { decodeEvent } from './logged-event.ts';
import type { LoggedEvent } from './logged-event.ts';
import type { IpmiRequest } from './message.ts';
import { payload } from './rmcp.ts';

/** `decode` gets what follows the completion code, of any length; undefined says that it makes no sense. */
export interface Command<T> {
  request: IpmiRequest;
  decode: (data: Buffer) => T;
}

const CHASSIS = 0x00;
const APP = 0x06;
const STORAGE = 0x0a;
const TRANSPORT = 0x0c;

/** §28.2: bit 0 of the first byte. */
export function chassisStatus(): Command<'on' | 'off' | undefined> {
  return {
    request: repeatable('Get Chassis Status', CHASSIS, 0x01),
    decode: (data) => (data.length === 0 ? undefined : (data.readUInt8(0) & 1) === 1 ? 'on' : 'off'),
  };
}

/** §28.3. A reset is sent once: repeated, it would hit a machine that has spent its boot device on the first. */
export function chassisControl(action: 'on' | 'off' | 'reset'): Command<void> {
  const { name, code } = controls[action];
  const request = repeatable(`Chassis Control (${name})`, CHASSIS, 0x02, code);
  return { request: { ...request, repeatable: action !== 'reset' }, decode: () => undefined };
}

const controls = {
  off: { name: 'power down', code: 0x00 },
  on: { name: 'power up', code: 0x01 },
  reset: { name: 'hard reset', code: 0x03 },
};

/**
 * §28.12, parameter 4: the BIOS has not yet dealt with the flags to come. BMCs start with "ignore them", so that a
 * BIOS that keeps to the specification needs this first.
 */
export function awaitBootFlags(): Command<void> {
  const request = repeatable('Set System Boot Options (acknowledge)', CHASSIS, 0x08, 0x04, BIOS_POST, BIOS_POST);
  return { request, decode: () => undefined };
}

const BIOS_POST = 0x01;

/** §28.12, parameter 5: valid for the next boot only. 'none' takes an override back. */
export function setBootFlags(device: BootDevice | 'none', firmware: BmcEndpoint['firmware']): Command<void> {
  const flags = VALID | (firmware === 'uefi' && device !== 'none' ? EFI : 0);
  const name = `Set System Boot Options (${device === 'none' ? 'no override' : `${device} once`})`;
  const request = repeatable(name, CHASSIS, 0x08, BOOT_FLAGS, flags, selectors[device] << 2, 0, 0, 0);
  return { request, decode: () => undefined };
}

export interface BootFlags {
  /** 'other' is a device of the specification that we never set. */
  device: BootDevice | 'none' | 'other';
  valid: boolean;
  efi: boolean;
}

/** §28.13. Undefined when the parameter is marked invalid, or cut short. */
export function getBootFlags(): Command<BootFlags | undefined> {
  return {
    request: repeatable('Get System Boot Options', CHASSIS, 0x09, BOOT_FLAGS, 0, 0),
    decode: (data) => {
      if (data.length < 4 || data[1] !== BOOT_FLAGS) return undefined;
      const [flags, selector] = [data.readUInt8(2), (data.readUInt8(3) >> 2) & 0x0f];
      const device = (['none', 'pxe', 'disk'] as const).find((name) => selectors[name] === selector);
      return { device: device ?? 'other', valid: (flags & VALID) !== 0, efi: (flags & EFI) !== 0 };
    },
  };
}

const BOOT_FLAGS = 0x05;
const VALID = 0x80;
const EFI = 0x20;
const selectors = { none: 0b0000, pxe: 0b0001, disk: 0b0010 };

/** §20.1. Undefined when cut short. */
export function deviceId(): Command<BmcIdentity | undefined> {
  return {
    request: repeatable('Get Device ID', APP, 0x01),
    decode: (data) => {
      if (data.length < 11) return undefined;
      const minor = data.readUInt8(3).toString(16).padStart(2, '0'); // BCD
      return {
        manufacturerId: data.readUIntLE(6, 3) & 0xf_ffff,
        productId: data.readUInt16LE(9),
        firmware: `${data.readUInt8(2) & 0x7f}.${minor}`,
      };
    },
  };
}

/** §20.8: optional, so many BMCs refuse it. */
export function systemGuid(): Command<string | undefined> {
  return {
    request: repeatable('Get System GUID', APP, 0x37),
    decode: (data) => (data.length < 16 ? undefined : data.toString('hex', 0, 16)),
  };
}

/** §31.2: how many entries the system event log has. Undefined when cut short. */
export function eventLogInfo(): Command<number | undefined> {
  return {
    request: repeatable('Get SEL Info', STORAGE, 0x40),
    decode: (data) => (data.length < 3 ? undefined : data.readUInt16LE(1)),
  };
}

/** §31.5: one entry, by its id or as `eventIds` names it; whole, which takes no reservation. Undefined when it is none. */
export function eventLogEntry(id: number): Command<LoggedEvent | undefined> {
  const NO_RESERVATION = [0, 0];
  const WHOLE = [0, 0xff];
  return {
    request: repeatable('Get SEL Entry', STORAGE, 0x43, ...NO_RESERVATION, id & 0xff, id >> 8, ...WHOLE),
    decode: decodeEvent,
  };
}

/**
 * §27.6. It stops the timer; only the machine starts it again. In the name of an operating system, so that firmware, which uses the
 * timer for its own start, has flags of its own. The longest countdown there is.
 */
export function setWatchdog(action: WatchdogAction): Command<void> {
  const name = `Set Watchdog Timer (stop, then ${action})`;
  const data = [FOR_SYSTEM, watchdogActions.indexOf(action), NO_PRETIMEOUT, 1 << FOR_SYSTEM, 0xff, 0xff];
  return { request: repeatable(name, APP, 0x24, ...data), decode: () => undefined };
}

const FOR_SYSTEM = 0x04;
const NO_PRETIMEOUT = 0;
const watchdogActions: readonly WatchdogAction[] = ['none', 'reset'];

export interface WatchdogTimer {
  readonly running: boolean;
  /** 'other' is switching the machine off, or off and on. */
  readonly action: WatchdogAction | 'other';
  readonly fired: boolean;
  /** Of the countdown that an operating system started, so much is over. */
  readonly elapsed: Millis;
}

/** §27.7: the countdown is in tenths of a second. Undefined when cut short. */
export function getWatchdog(): Command<WatchdogTimer | undefined> {
  return {
    request: repeatable('Get Watchdog Timer', APP, 0x25),
    decode: (data) => {
      if (data.length < 8) return undefined;
      const [use, running] = [data.readUInt8(0) & 0x07, (data.readUInt8(0) & 0x40) !== 0];
      const elapsed = Math.max(0, data.readUInt16LE(4) - data.readUInt16LE(6)) * 100;
      return {
        running,
        action: watchdogActions[data.readUInt8(1) & 0x07] ?? 'other',
        fired: (data.readUInt8(3) & (1 << FOR_SYSTEM)) !== 0,
        elapsed: running && use === FOR_SYSTEM ? elapsed : 0,
      };
    },
  };
}

/** §22.13, as administrator on this channel, with the IPMI 2.0 answer. */
export function channelAuthCapabilities(): Command<{ rmcpPlus: boolean; bmcKeySet: boolean }> {
  return {
    request: repeatable('Get Channel Authentication Capabilities', APP, 0x38, 0x80 | THIS_CHANNEL, ADMINISTRATOR),
    decode: (data) => ({
      rmcpPlus: ((data[1] ?? 0) & 0x80) !== 0 && ((data[3] ?? 0) & 0x02) !== 0,
      bmcKeySet: ((data[2] ?? 0) & 0x20) !== 0,
    }),
  };
}

const THIS_CHANNEL = 0x0e;
const ADMINISTRATOR = 0x04;

/** §22.18. */
export function setSessionPrivilege(): IpmiRequest {
  return repeatable('Set Session Privilege Level', APP, 0x3b, ADMINISTRATOR);
}

/** §22.19. */
export function closeSession(sessionId: number): IpmiRequest {
  const id = Buffer.alloc(4);
  id.writeUInt32LE(sessionId);
  return repeatable('Close Session', APP, 0x3c, ...id);
}

/**
 * §26.3, parameter 1: whether serial-over-LAN is enabled on this channel. It is what ipmitool asks first, so that BMCs are used
 * to it; the question meant for this, Get Channel Payload Support (§24.8), ends the process of `ipmi_sim`.
 */
export function consoleEnabled(): Command<boolean> {
  return {
    request: repeatable('Get SOL Configuration Parameters', TRANSPORT, 0x22, THIS_CHANNEL, SOL_ENABLE, 0, 0),
    decode: (data) => ((data[1] ?? 0) & 1) !== 0,
  };
}

const SOL_ENABLE = 0x01;

/** §24.1: serial-over-LAN, its first instance, signed and encrypted as all else in the session. */
export function activateConsole(): IpmiRequest {
  return repeatable('Activate Payload (SOL)', APP, 0x48, payload.sol, FIRST_INSTANCE, SIGNED_AND_ENCRYPTED, 0, 0, 0);
}

/** §24.2. */
export function deactivateConsole(): IpmiRequest {
  return repeatable('Deactivate Payload (SOL)', APP, 0x49, payload.sol, FIRST_INSTANCE, 0, 0, 0, 0);
}

const FIRST_INSTANCE = 1;
const SIGNED_AND_ENCRYPTED = 0xc0;

function repeatable(name: string, netFn: number, cmd: number, ...data: number[]): IpmiRequest {
  return { name, netFn, cmd, data: Buffer.from(data), repeatable: true };
}
