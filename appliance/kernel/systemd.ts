import type { Socket } from 'node:dgram';

import type { Clock, Millis } from './clock.ts';
import { RackstartError } from './errors.ts';
import type { Log } from './log.ts';
import { adoptSocket, closeOnExec, sendUnixDatagram } from './native-socket.ts';
import type { Service } from './service.ts';

/** What systemd gave this process, and how to tell it something. Without systemd: nothing, and nobody hears. */
export interface Systemd {
  /**
   * The UDP socket handed over under that name (FileDescriptorName= in its socket unit), to be closed by who takes it;
   * undefined when there is none or it was taken.
   */
  takeSocket(name: string): Socket | undefined;
  /** One assignment each (sd_notify(3)), such as `READY=1`. A failure is logged and never thrown. */
  notify(...assignments: readonly string[]): void;
  /** How long systemd waits for `WATCHDOG=1` before it restarts us; undefined when it does not. */
  readonly watchdog: Millis | undefined;
}

/** Reads what systemd put into the environment. Errors: `config.invalid` when that is damaged. */
export function openSystemd(environment: NodeJS.ProcessEnv, pid: number, log: Log): Systemd {
  const descriptors = parseListenFds(environment, pid);
  for (const { fd } of descriptors) closeOnExec(fd);
  const address = environment['NOTIFY_SOCKET'];
  return {
    watchdog: parseWatchdog(environment, pid),

    takeSocket(name) {
      const index = descriptors.findIndex((each) => each.name === name);
      const [taken] = index < 0 ? [] : descriptors.splice(index, 1);
      return taken && adoptSocket(taken.fd);
    },

    notify(...assignments) {
      if (!address) return;
      try {
        sendUnixDatagram(address, assignments.join('\n'));
      } catch (error) {
        log.warn({ error, assignments }, 'systemd could not be told');
      }
    },
  };
}

/** For a process that no service manager started. */
export const noSystemd: Systemd = { takeSocket: () => undefined, notify: () => undefined, watchdog: undefined };

export interface NamedDescriptor {
  readonly name: string;
  readonly fd: number;
}

/**
 * The descriptors handed over, in their order (sd_listen_fds_with_names(3)): from 3 on, and none when they were meant for
 * another process, whose environment we inherited. Errors: `config.invalid`.
 */
export function parseListenFds(environment: NodeJS.ProcessEnv, pid: number): NamedDescriptor[] {
  const { LISTEN_PID: listenPid, LISTEN_FDS: listenFds, LISTEN_FDNAMES: listenNames } = environment;
  if (listenPid !== String(pid) || listenFds === undefined) return [];
  const count = /^\d{1,4}$/.test(listenFds) ? Number(listenFds) : NaN;
  const names = listenNames?.split(':') ?? Array.from({ length: count || 0 }, () => 'unknown');
  if (Number.isNaN(count) || (count > 0 && names.length !== count)) {
    const told = `LISTEN_FDS=${listenFds} LISTEN_FDNAMES=${listenNames ?? ''}`;
    throw new RackstartError('config.invalid', `systemd's descriptors can't be told apart: ${told}`);
  }
  return names.slice(0, count).map((name, index) => ({ name, fd: FIRST_DESCRIPTOR + index }));
}

/** Errors: `config.invalid`. Source: sd_watchdog_enabled(3). */
export function parseWatchdog(environment: NodeJS.ProcessEnv, pid: number): Millis | undefined {
  const { WATCHDOG_USEC: microseconds, WATCHDOG_PID: watchdogPid = String(pid) } = environment;
  if (microseconds === undefined || watchdogPid !== String(pid)) return undefined;
  if (!/^[1-9]\d{0,14}$/.test(microseconds)) {
    throw new RackstartError('config.invalid', `WATCHDOG_USEC=${microseconds} is no time in microseconds`);
  }
  return Number(microseconds) / 1_000;
}

export interface LifeSignsOptions {
  readonly systemd: Systemd;
  /** Settles when everything listens; a rejection is another service's to tell. */
  readonly ready: Promise<unknown>;
  /** Resolves when the daemon can do its work, such as a read of the store that was answered. */
  readonly probe: () => Promise<unknown>;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Tells systemd that the daemon is ready, then that it lives: twice in each watchdog period, after a probe was answered. A
 * probe that hangs or fails, or an event loop that stands still, tells nothing, and systemd restarts us.
 */
export class LifeSigns implements Service {
  readonly name = 'life-signs';
  readonly #options: LifeSignsOptions;

  constructor(options: LifeSignsOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { systemd, ready } = this.#options;
    const ending = aborted(signal);
    try {
      const listening = ready.then(
        () => true,
        () => false,
      );
      if (await Promise.race([listening, ending])) {
        systemd.notify('READY=1', 'STATUS=serving');
        if (systemd.watchdog !== undefined) await Promise.race([this.#watch(systemd.watchdog, signal), ending]);
      }
      await ending;
    } finally {
      systemd.notify('STOPPING=1', 'STATUS=stopping');
    }
  }

  async #watch(period: Millis, signal: AbortSignal): Promise<void> {
    const { systemd, probe, clock, log } = this.#options;
    while (!signal.aborted) {
      try {
        await probe();
        systemd.notify('WATCHDOG=1');
      } catch (error) {
        log.error({ error }, 'the watchdog is not told: the store does not answer');
      }
      // Ends with the signal: nobody waits for us any more.
      await clock.sleepUntil(clock.now() + period / 2, signal).catch(() => undefined);
    }
  }
}

// SD_LISTEN_FDS_START
const FIRST_DESCRIPTOR = 3;

/** Resolves to false: not ready. */
function aborted(signal: AbortSignal): Promise<false> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(false);
    signal.addEventListener('abort', () => resolve(false), { once: true });
  });
}
