import type { Mac } from '../../pxe/boot-client.ts';
import type { Timeline, TimelineEntry } from '../../pxe/timeline.ts';
import { MINUTE, SECOND } from '../kernel/clock.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { asRackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import { periodically } from '../kernel/periodically.ts';
import type { Secret } from '../kernel/secret.ts';
import type { Service } from '../kernel/service.ts';
import type { BootSessionRow, MachineRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import type { BmcEndpoint } from './bmc/bmc.ts';
import { bmcError } from './bmc/bmc-error.ts';
import type { ConsoleListener } from './bmc/console.ts';
import { endpointOf } from './bmc-fleet.ts';
import { ConsoleRecorder } from './console-recorder.ts';

export interface ConsoleCaptureDeps {
  readonly read: Reader;
  readonly timeline: Timeline;
  readonly clock: Clock;
  readonly log: Log;
  /** Opens the password that was sealed for this machine. */
  readonly unseal: (machineId: string, sealed: string) => Secret;
  /** `bmc/console.ts`. */
  readonly follow: (
    endpoint: BmcEndpoint,
    onOutput: ConsoleListener,
    signal: AbortSignal,
  ) => Promise<'absent' | 'ended'>;
}

/**
 * Keeps on the timeline what machines print on their serial consoles while they boot for us: from the reset to the end of the
 * boot session. It reads in the store which boots are open, so that after a restart it goes on with them; it begins after the
 * BMC has taken the reset, speaks in sessions of its own, and what goes wrong here is noted and changes no boot.
 */
export class ConsoleCapture implements Service {
  readonly name = 'console-capture';
  readonly #deps: ConsoleCaptureDeps;
  /** By boot session; one that was given up stays until its boot ends. */
  readonly #captures = new Map<string, AbortController>();
  readonly #running = new Set<Promise<void>>();

  constructor(deps: ConsoleCaptureDeps) {
    this.#deps = deps;
  }

  async run(signal: AbortSignal): Promise<void> {
    const failure = 'open boots could not be read for their consoles';
    try {
      await periodically(() => this.#look(), { ...this.#deps, every: LOOK_EVERY, failure }, signal);
    } finally {
      this.#captures.forEach((stop) => stop.abort());
      await Promise.all(this.#running);
    }
  }

  async #look(): Promise<void> {
    const boots = await openBoots(this.#deps.read);
    const open = new Set(boots.map(({ id }) => id));
    for (const [sessionId, stop] of this.#captures) {
      if (open.has(sessionId)) continue;
      stop.abort();
      this.#captures.delete(sessionId);
    }
    for (const boot of boots.filter(({ id }) => !this.#captures.has(id)).slice(0, MOST_LOGINS)) {
      if (this.#running.size >= MOST_CAPTURES) return;
      const stop = new AbortController();
      this.#captures.set(boot.id, stop);
      const running = this.#capture(boot, stop.signal).finally(() => this.#running.delete(running));
      this.#running.add(running);
    }
  }

  /** Never rejects. */
  async #capture(boot: OpenBoot, signal: AbortSignal): Promise<void> {
    const { clock, log, read, unseal } = this.#deps;
    try {
      const { machine, mac } = await machineOf(read, boot);
      if (machine.bmc_kind !== 'ipmi') return;
      const tell = (entry: TimelineEntry) => this.#deps.timeline.seen(mac, entry);
      const note = (name: string, detail: TimelineEntry['detail'] = {}) =>
        tell({ at: clock.now(), source: 'console', name, detail });
      const recorder = new ConsoleRecorder({ clock, kept: await keptBefore(read, boot.id), tell });
      try {
        await this.#follow(endpointOf(machine, unseal), recorder, note, signal);
      } catch (error) {
        if (signal.aborted) return;
        note('given-up', { code: asRackstartError(error).code });
        throw error;
      } finally {
        recorder.flush();
      }
    } catch (error) {
      const { code, message } = asRackstartError(error);
      log.warn({ machine: boot.machine_id, code, reason: message }, 'no console of this boot');
    }
  }

  /** As often as it is worth it; the last error when it is not. */
  async #follow(
    endpoint: BmcEndpoint,
    recorder: ConsoleRecorder,
    note: (name: string, detail?: TimelineEntry['detail']) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, follow } = this.#deps;
    for (let failures = 0; ;) {
      const begun = clock.now();
      let failure = bmcError('bmc.refused', endpoint, 'keeps ending its console');
      try {
        const outcome = await follow(endpoint, (characters, lost) => recorder.write(characters, lost), signal);
        if (outcome === 'absent') {
          note('absent');
          return;
        }
      } catch (error) {
        signal.throwIfAborted();
        failure = asRackstartError(error);
      }
      recorder.gap();
      // One that was heard for a while was no failure: some BMCs end it when the machine is reset.
      failures = clock.now() - begun >= MINUTE ? 1 : failures + 1;
      const pause = PAUSES[failures - 1];
      if (pause === undefined) throw failure;
      await clock.sleepUntil(clock.now() + pause, signal);
    }
  }
}

type OpenBoot = Pick<BootSessionRow, 'id' | 'machine_id'>;

/**
 * The boots whose reset was taken, oldest first. Asked every second: it reads no more than what is open. A machine that is parked
 * prints nothing, for days; BMCs have few sessions to give.
 */
function openBoots(read: Reader): Promise<OpenBoot[]> {
  return read
    .selectFrom('boot_sessions')
    .select(['id', 'machine_id'])
    .where('ended_at', 'is', null)
    .where('powered_at', 'is not', null)
    .where('state', '!=', 'parked')
    .orderBy('powered_at')
    .execute();
}

async function machineOf(read: Reader, { machine_id: id }: OpenBoot): Promise<{ machine: MachineRow; mac: Mac }> {
  const machine = await read.selectFrom('machines').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
  // Any NIC's name tells the timeline which machine it is; an enrolled machine has one.
  const nics = read.selectFrom('machine_nics').select('mac').where('machine_id', '=', id).orderBy('mac');
  return { machine, mac: (await nics.executeTakeFirstOrThrow()).mac as Mac };
}

async function keptBefore(read: Reader, sessionId: string): Promise<number> {
  const { kept } = await read
    .selectFrom('timeline')
    .select((eb) => eb.fn.sum<number | string | null>(eb.fn('length', ['detail'])).as('kept'))
    .where('session_id', '=', sessionId)
    .where('source', '=', 'console')
    .executeTakeFirstOrThrow();
  return Number(kept ?? 0);
}

const LOOK_EVERY = SECOND;
// Past a minute: a session that a crash of ours has left behind ends by itself (IPMI 2.0 §6.12.15), and gives the console back.
const PAUSES: readonly Millis[] = [15 * SECOND, 30 * SECOND, MINUTE];
// A rack that is switched on at once is not logged into at once.
const MOST_LOGINS = 20;
// A socket each.
const MOST_CAPTURES = 500;
