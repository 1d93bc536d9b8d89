import type { Millis } from '../../kernel/clock.ts';
import type { Secret } from '../../kernel/secret.ts';

export type PowerState = 'on' | 'off' | 'unknown';
export type BootDevice = 'pxe' | 'disk';

/**
 * The management controller of one machine. Accepted is not reached: whatever is set is read back, and a power reading
 * is believed when it came twice in a row. Nothing is done on 'unknown'.
 *
 * Every call may reject with `bmc.unreachable`, `bmc.auth`, `bmc.busy` or `bmc.refused`, naming the BMC's address, or
 * with the signal's reason. Keep one Bmc per controller: it holds the session, the queue and the rate limit.
 */
export interface Bmc {
  /** 'unknown' when no two readings in a row agree. */
  power(signal: AbortSignal): Promise<PowerState>;
  /**
   * Resolves when `want` is reached; sends nothing when it is so already. 'reset' switches a machine on that is off.
   * Rejects with `bmc.power-unknown` (nothing was sent) or `bmc.lied` (sent, accepted, not reached in time).
   */
  setPower(want: 'on' | 'off' | 'reset', signal: AbortSignal): Promise<void>;
  /** The device of the next boot only. BMCs forget it after 60 s (IPMI 2.0 §28.13): reset right afterwards. */
  bootOnce(device: BootDevice, signal: AbortSignal): Promise<void>;
  /** `bootOnce` and `setPower('reset')` in the one order that works, with the power read before the device is set. */
  bootOnceAndReset(device: BootDevice, signal: AbortSignal): Promise<void>;
  clearBootOverride(signal: AbortSignal): Promise<void>;
  identity(signal: AbortSignal): Promise<BmcIdentity>;
  /** The record id of the newest entry of the system event log; 0 when there is none. */
  newestEvent(signal: AbortSignal): Promise<number>;
  /**
   * Faults that the system event log has recorded behind the entry `after`, out of the next eight entries: their ids tell what is new,
   * whatever the BMC takes for the time. Rejects with `bmc.refused` when `after` is there no more. Nothing is deleted.
   */
  faultsSince(after: number, signal: AbortSignal): Promise<LoggedFaults>;
  /** The watchdog timer. Rejects with `bmc.refused` where there is none. */
  watchdog(signal: AbortSignal): Promise<Watchdog>;
  /**
   * Stops the watchdog timer, whoever started it, and says what it does to the machine should that start it again and let it run out:
   * a reset, or nothing. That it ran out before is forgotten. Rejects with `bmc.refused` where the BMC has no such timer, or can't.
   */
  stopWatchdog(then: WatchdogAction, signal: AbortSignal): Promise<void>;
  /** Ends the session; calls under way reject. */
  close(): Promise<void>;
}

/** What the controller says of itself (IPMI 2.0 §20.1, §20.8). */
export interface BmcIdentity {
  /** IANA enterprise number. */
  manufacturerId: number;
  productId: number;
  /** Such as `9.08`. */
  firmware: string;
  /** 32 hex digits as sent: vendors disagree about the byte order. */
  guid?: string;
}

/** A piece of the system event log. */
export interface LoggedFaults {
  /** Oldest first. */
  readonly faults: readonly HardwareFault[];
  /** The last entry that was read: the next piece begins behind it. */
  readonly upTo: number;
  /** Whether that is the newest one. */
  readonly isWhole: boolean;
}

export type WatchdogAction = 'reset' | 'none';

/** A timer in the BMC that what runs on the machine keeps from running out (IPMI 2.0 §27). */
export interface Watchdog {
  /** It runs, and does something to the machine when it runs out. */
  readonly armed: boolean;
  /** It ran out while an operating system used it, since it was last stopped by us. */
  readonly fired: boolean;
  /** How long ago an operating system started it, or kept it up, last; 0 while it runs for none. */
  readonly unfedFor: Millis;
}

/** What a BMC has recorded of the machine's hardware. Plain JSON. */
export interface HardwareFault {
  readonly part: 'memory' | 'processor' | 'disk' | 'power supply' | 'firmware';
  /** In the words of IPMI 2.0, table 42-3. */
  readonly event: string;
  /** The id of the record. */
  readonly record: number;
  readonly sensor: number;
}

export interface BmcEndpoint {
  /** Our own IPMI client, or the program `ipmitool` as a fallback. */
  kind: 'ipmi' | 'ipmitool';
  /** IPv4 or IPv6, no name: a BMC must not depend on DNS. */
  address: string;
  port: number;
  username: string;
  password: Secret;
  /** 3: SHA-1, 17: SHA-256; both AES-CBC-128. There is no cipher suite 0 here. */
  cipherSuite: 3 | 17;
  /** Of the machine: a UEFI machine told to boot without the EFI bit may start in legacy mode. */
  firmware?: 'bios' | 'uefi';
}

/** One command to a BMC, for the boot's timeline; never holds a secret. */
export interface BmcCommandRecord {
  /** When it was sent: after the queue, and after the session was opened if that was needed. */
  at: Millis;
  /** `address:port`. */
  bmc: string;
  /** The name in the specification, such as `Chassis Control`, with what matters of its data: `hard reset`. */
  command: string;
  netFn: number;
  cmd: number;
  /** 0 is success (IPMI 2.0 §5.2); absent when no answer came. */
  completionCode?: number;
  /** An error code of ours; absent on success. */
  error?: string;
  /** What followed the completion code, in hex: what a BMC reads back is what it has, whatever it accepted. */
  answer?: string;
  elapsedMs: Millis;
}
export type BmcCommandListener = (record: BmcCommandRecord) => void;
