import type { Millis } from '../../../kernel/clock.ts';
import { hasCode } from '../../../kernel/errors.ts';
import type { Log } from '../../../kernel/log.ts';
import type { BmcEndpoint } from '../bmc.ts';
import { bmcError, bmcName } from '../bmc-error.ts';
import type { CommandQueue } from '../command-queue.ts';
import { recorded } from '../transport.ts';
import type { IpmiTransport, Recorder } from '../transport.ts';
import { deviceId } from './commands.ts';
import { refused } from './completion-code.ts';
import type { IpmiRequest } from './message.ts';
import { Session } from './session.ts';
import type { SessionDeps } from './handshake.ts';

/** BMCs end a session after 60 s ± 3 s of silence (IPMI 2.0 §6.12.15); `ipmi_sim` after 30 s. */
const KEEP_ALIVE: Millis = 20_000;

export interface SessionTransportDeps extends SessionDeps, Recorder {
  queue: CommandQueue;
  log: Log;
}

/**
 * Requests over one session that is opened when first needed, kept alive, and opened again when the BMC has lost it
 * (it restarted, or gave the slot to somebody else: it then answers nothing at all).
 */
export class SessionTransport implements IpmiTransport {
  readonly #endpoint: BmcEndpoint;
  readonly #deps: SessionTransportDeps;
  readonly #log: Log;
  readonly #closing = new AbortController();
  readonly #combined = new WeakMap<AbortSignal, AbortSignal>();
  #session: Session | undefined;
  #usedAt: Millis = 0;

  constructor(endpoint: BmcEndpoint, deps: SessionTransportDeps) {
    this.#endpoint = endpoint;
    this.#deps = deps;
    this.#log = deps.log.child({ bmc: bmcName(endpoint) });
  }

  async request(request: IpmiRequest, signal: AbortSignal): Promise<Buffer> {
    const untilClosed = this.#untilClosed(signal);
    return this.#deps.queue.run(() => this.#send(request, untilClosed), untilClosed);
  }

  async close(): Promise<void> {
    this.#closing.abort(bmcError('bmc.unreachable', this.#endpoint, 'was closed here'));
    await this.#session?.close();
    this.#session = undefined;
  }

  // Kept per signal: callers bring the same one for a row of commands, and making one costs a tenth of a command.
  #untilClosed(signal: AbortSignal): AbortSignal {
    const known = this.#combined.get(signal);
    if (known !== undefined) return known;
    const combined = AbortSignal.any([signal, this.#closing.signal]);
    this.#combined.set(signal, combined);
    return combined;
  }

  async #send(request: IpmiRequest, signal: AbortSignal): Promise<Buffer> {
    const kept = this.#session;
    try {
      return await this.#sendOnce(kept ?? (await this.#open(signal)), request, signal);
    } catch (error) {
      const lost = kept !== undefined && hasCode(error, 'bmc.unreachable') && !signal.aborted;
      if (!lost || !request.repeatable) throw error;
      return this.#sendOnce(await this.#open(signal), request, signal);
    }
  }

  async #sendOnce(session: Session, request: IpmiRequest, signal: AbortSignal): Promise<Buffer> {
    return recorded(this.#deps, this.#endpoint, request, async () => {
      const response = await session.exchange(request, signal);
      if (response === undefined) {
        await this.#lose(session);
        throw bmcError('bmc.unreachable', this.#endpoint, `did not answer ${request.name}`);
      }
      this.#usedAt = this.#deps.clock.now();
      if (response.completionCode !== 0) throw refused(this.#endpoint, request, response.completionCode);
      return response.data;
    });
  }

  async #open(signal: AbortSignal): Promise<Session> {
    const session = await recorded(this.#deps, this.#endpoint, OPEN, () =>
      Session.open(this.#endpoint, this.#deps, signal),
    );
    // Closed while the last answer of the login was on its way: nobody else would end this session.
    if (this.#closing.signal.aborted) await session.close();
    this.#closing.signal.throwIfAborted();
    this.#session = session;
    this.#usedAt = this.#deps.clock.now();
    this.#log.debug({}, 'BMC session opened');
    void this.#keepAlive(session);
    return session;
  }

  async #lose(session: Session): Promise<void> {
    this.#log.warn({}, 'BMC session lost');
    this.#session = undefined;
    await session.close();
  }

  async #keepAlive(session: Session): Promise<void> {
    const { signal } = this.#closing;
    while (this.#session === session) {
      const due = this.#usedAt + KEEP_ALIVE;
      try {
        await this.#deps.clock.sleepUntil(due, signal);
        if (this.#session === session && this.#usedAt + KEEP_ALIVE <= due)
          await this.request(deviceId().request, signal);
      } catch (cause) {
        if (signal.aborted) return;
        this.#log.warn({ cause }, 'BMC session not kept alive');
      }
    }
  }
}

/** A login is several messages; the timeline shows it by its first (IPMI 2.0 §13.15). */
const OPEN: Pick<IpmiRequest, 'name' | 'netFn' | 'cmd'> = { name: 'Open Session', netFn: 0x06, cmd: 0x38 };
