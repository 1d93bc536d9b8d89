import type { Clock, Millis } from '../../kernel/clock.ts';
import { hasCode } from '../../kernel/errors.ts';
import type {
  Bmc,
  BmcEndpoint,
  BmcIdentity,
  BootDevice,
  HardwareFault,
  LoggedFaults,
  PowerState,
  Watchdog,
  WatchdogAction,
} from './bmc.ts';
import { bmcError } from './bmc-error.ts';
import * as commands from './ipmi/commands.ts';
import type { Command } from './ipmi/commands.ts';
import { eventIds } from './ipmi/logged-event.ts';
import type { LoggedEvent } from './ipmi/logged-event.ts';
import type { IpmiTransport } from './transport.ts';

export interface IpmiBmcDeps {
  clock: Clock;
  transport: IpmiTransport;
  /** How long a machine may take to reach the power state it was told. */
  powerDeadline: Millis;
}

/** The promises of `Bmc`, kept over any way to bring IPMI requests to the controller. */
export class IpmiBmc implements Bmc {
  readonly #endpoint: BmcEndpoint;
  readonly #deps: IpmiBmcDeps;

  constructor(endpoint: BmcEndpoint, deps: IpmiBmcDeps) {
    this.#endpoint = endpoint;
    this.#deps = deps;
  }

  async power(signal: AbortSignal): Promise<PowerState> {
    let last: PowerState = 'unknown';
    for (let reading = 0; reading < POWER_READINGS; reading++) {
      const now: PowerState = (await this.#send(commands.chassisStatus(), signal)) ?? 'unknown';
      if (now === last && now !== 'unknown') return now;
      last = now;
    }
    return 'unknown';
  }

  async setPower(want: 'on' | 'off' | 'reset', signal: AbortSignal): Promise<void> {
    await this.#setPower(await this.#believedPower(signal), want, signal);
  }

  async bootOnce(device: BootDevice, signal: AbortSignal): Promise<void> {
    try {
      await this.#send(commands.awaitBootFlags(), signal);
    } catch (error) {
      if (!hasCode(error, 'bmc.refused')) throw error; // optional, and many BMCs know parameter 5 alone
    }
    await this.#setBootFlags(device, signal);
  }

  async bootOnceAndReset(device: BootDevice, signal: AbortSignal): Promise<void> {
    const now = await this.#believedPower(signal);
    await this.bootOnce(device, signal);
    await this.#setPower(now, 'reset', signal);
  }

  clearBootOverride(signal: AbortSignal): Promise<void> {
    return this.#setBootFlags('none', signal);
  }

  async identity(signal: AbortSignal): Promise<BmcIdentity> {
    const id = await this.#send(commands.deviceId(), signal);
    if (id === undefined) throw bmcError('bmc.refused', this.#endpoint, 'tells no device id');
    const guid = await this.#guid(signal);
    return guid === undefined ? id : { ...id, guid };
  }

  async newestEvent(signal: AbortSignal): Promise<number> {
    const entries = await this.#send(commands.eventLogInfo(), signal);
    if (entries === undefined) throw bmcError('bmc.refused', this.#endpoint, 'tells nothing of its event log');
    return entries === 0 ? 0 : (await this.#event(eventIds.newest, signal)).id;
  }

  async faultsSince(after: number, signal: AbortSignal): Promise<LoggedFaults> {
    if (after === 0 && (await this.newestEvent(signal)) === 0) return { faults: [], upTo: 0, isWhole: true };
    const faults: HardwareFault[] = [];
    let upTo = after;
    let next: number = after === 0 ? eventIds.oldest : (await this.#event(after, signal)).next;
    for (let read = 0; read < EVENTS_AT_ONCE && next !== eventIds.end; read++) {
      const event = await this.#event(next, signal);
      if (event.fault !== undefined) faults.push(event.fault);
      upTo = event.id;
      next = event.next;
    }
    return { faults, upTo, isWhole: next === eventIds.end };
  }

  async watchdog(signal: AbortSignal): Promise<Watchdog> {
    const { running, action, fired, elapsed } = await this.#watchdogTimer(signal);
    return { armed: running && action !== 'none', fired, unfedFor: elapsed };
  }

  async stopWatchdog(then: WatchdogAction, signal: AbortSignal): Promise<void> {
    await this.#send(commands.setWatchdog(then), signal);
    const read = await this.#watchdogTimer(signal);
    if (read.running || read.action !== then || read.fired) {
      throw bmcError('bmc.lied', this.#endpoint, 'accepted to stop its watchdog timer, and tells something else back', {
        read,
      });
    }
  }

  close(): Promise<void> {
    return this.#deps.transport.close();
  }

  async #watchdogTimer(signal: AbortSignal): Promise<commands.WatchdogTimer> {
    const timer = await this.#send(commands.getWatchdog(), signal);
    if (timer === undefined) throw bmcError('bmc.refused', this.#endpoint, 'tells nothing of its watchdog timer');
    return timer;
  }

  async #event(id: number, signal: AbortSignal): Promise<LoggedEvent> {
    const event = await this.#send(commands.eventLogEntry(id), signal);
    const isAsked = id === eventIds.oldest || id === eventIds.newest || id === event?.id;
    if (event === undefined || !isAsked) {
      throw bmcError('bmc.refused', this.#endpoint, `tells something else than entry ${String(id)} of its event log`);
    }
    return event;
  }

  async #believedPower(signal: AbortSignal): Promise<'on' | 'off'> {
    const now = await this.power(signal);
    if (now === 'unknown')
      throw bmcError('bmc.power-unknown', this.#endpoint, 'gives another power state at every reading');
    return now;
  }

  async #setPower(now: 'on' | 'off', want: 'on' | 'off' | 'reset', signal: AbortSignal): Promise<void> {
    if (now === want) return;
    const goal = want === 'off' ? 'off' : 'on';
    await this.#send(commands.chassisControl(want === 'reset' && now === 'off' ? 'on' : want), signal);
    await this.#reach(goal, signal);
  }

  async #reach(goal: 'on' | 'off', signal: AbortSignal): Promise<void> {
    const { clock, powerDeadline } = this.#deps;
    const deadline = clock.now() + powerDeadline;
    while ((await this.power(signal)) !== goal) {
      if (clock.now() >= deadline) {
        throw bmcError('bmc.lied', this.#endpoint, `accepted power ${goal}, and its power is not ${goal}`);
      }
      await clock.sleepUntil(Math.min(clock.now() + POWER_POLL, deadline), signal);
    }
  }

  async #setBootFlags(device: BootDevice | 'none', signal: AbortSignal): Promise<void> {
    const { firmware } = this.#endpoint;
    await this.#send(commands.setBootFlags(device, firmware), signal);
    const read = await this.#send(commands.getBootFlags(), signal);
    // ipmi_sim and some BMCs keep the device and forget the byte with the valid and EFI bits, yet obey: that byte is
    // held against a BMC only when it shows that it keeps it.
    const wrongMode = read?.valid === true && device !== 'none' && read.efi !== (firmware === 'uefi');
    if (read?.device !== device || wrongMode) {
      const told = read?.device ?? 'nothing';
      throw bmcError('bmc.lied', this.#endpoint, `accepted boot device ${device}, and tells ${told} back`, { read });
    }
  }

  async #guid(signal: AbortSignal): Promise<string | undefined> {
    try {
      return await this.#send(commands.systemGuid(), signal);
    } catch (error) {
      if (hasCode(error, 'bmc.refused')) return undefined;
      throw error;
    }
  }

  async #send<T>({ request, decode }: Command<T>, signal: AbortSignal): Promise<T> {
    return decode(await this.#deps.transport.request(request, signal));
  }
}

// Two that agree are believed; a BMC that has not managed two in six readings is in no state to be obeyed.
const POWER_READINGS = 6;
const POWER_POLL: Millis = 250;

// A BMC that takes the 0.3 s of a slow one for each tells so many within the patience of who asks.
const EVENTS_AT_ONCE = 8;
