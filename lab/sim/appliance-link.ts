import { Agent } from 'node:https';
import type { SecureContext } from 'node:tls';

import type { Millis } from '../../appliance/kernel/clock.ts';
import { SECOND } from '../../appliance/kernel/clock.ts';
import { draw } from '../../appliance/kernel/seeded.ts';
import type { Answer, Question } from './ask.ts';
import { ask } from './ask.ts';
import type { Boot } from './boot.ts';
import type { Asked } from './statistics.ts';

/** What a ramdisk is ordered to do: `key=value` lines, as they came. */
export type Order = Readonly<Record<string, string>>;

export type Facts = Readonly<Record<string, string>>;

/** The appliance has said that this boot is over. */
export class CutOff extends Error {}

/** A stage that ended badly, with the code that the ramdisk reports for it. */
export class StageFailure extends Error {
  readonly code: string;

  constructor(code: string, reason: string) {
    super(reason);
    this.code = code;
  }
}

// As `protocol.sh` has them: what must arrive is tried for as long as an appliance needs that is being restarted.
const TRIES = 24;
const ASK_AGAIN = 3 * SECOND;
const TELL_AGAIN = 5 * SECOND;
const NEXT_AGAIN = 8 * SECOND;
const LONG_POLL = 60 * SECOND;

/** The boot protocol, version 1, from the ramdisk's side (`images/ramdisk/protocol.sh`). */
export class ApplianceLink {
  readonly #boot: Boot;
  readonly #url: string;
  /** The machine's own. */
  readonly address: string;
  readonly #trust: SecureContext | undefined;
  #bearer: string | undefined;
  #generation = '';
  #pauses = 0;
  /** Reports that wait for the next `tell`. */
  #untold: URLSearchParams[] = [];

  constructor(boot: Boot, { url, address, trust }: { url: string; address: string; trust: SecureContext | undefined }) {
    this.#boot = boot;
    this.#url = url;
    this.address = address;
    this.#trust = trust;
  }

  /** Rejects with a `StageFailure` unless the claim was granted. */
  async claim(form: Facts): Promise<Order> {
    const body = new URLSearchParams({ protocol: '1', ...form });
    const answer = await this.insist('claim', '/boot/v1/claim', { method: 'POST', body });
    if (answer?.status !== 200) {
      throw new StageFailure('boot.stage-failed', `the claim was answered with ${answer?.status ?? 'silence'}`);
    }
    return this.#obey(lines(answer));
  }

  /** Keeps a report until the next `tell`: a TLS connection costs more than what it carries. */
  note(stage: string, status: 'started' | 'progress' | 'done' | 'failed', facts: Facts = {}): void {
    this.#untold.push(new URLSearchParams({ stage, status, uptime: this.#boot.uptime, ...facts }));
  }

  /** Tells what has not been told, over one connection. After two minutes the work goes on without. */
  async tell(): Promise<void> {
    if (this.#bearer === undefined) return;
    for (let tried = 1; this.#untold.length > 0 && tried <= TRIES; tried++) {
      if (!(await this.#tellOnce())) await this.#pause(TELL_AGAIN);
    }
    this.#untold = [];
  }

  /** For people; not worth a second try. */
  async log(text: string): Promise<void> {
    await this.#ask('/boot/v1/log', { method: 'POST', body: text }).catch(() => undefined);
  }

  /** Long poll: the next order, whenever it comes. */
  async next(): Promise<Order> {
    await this.tell();
    for (;;) {
      const path = `/boot/v1/next?generation=${this.#generation}`;
      const answer = await this.#ask(path, { within: LONG_POLL }).catch(() => undefined);
      if (answer !== undefined) this.#throwIfOver(answer.status);
      if (answer?.status === 200) {
        const order = lines(answer);
        // Only a newer generation is an order: nothing is ever done twice.
        if (Number(order['generation']) > Number(this.#generation)) {
          this.#boot.deps.notes.count('order taken');
          return this.#obey(order);
        }
      }
      if (answer?.status !== 204) await this.#pause(this.#jitter());
    }
  }

  /** An answer that is no error of the appliance's own; undefined when there was none. */
  async insist(what: Asked, path: string, question: Partial<Question> = {}): Promise<Answer | undefined> {
    const { notes, signal } = this.#boot.deps;
    for (let tried = 1; tried <= TRIES; tried++) {
      const answer = await notes.timed(what, () => this.#ask(path, question)).catch(() => undefined);
      signal.throwIfAborted();
      if (answer !== undefined && answer.status < 500) return answer;
      await this.#pause(ASK_AGAIN);
    }
    return undefined;
  }

  #obey({ bearer, ...order }: Order): Order {
    this.#bearer = bearer;
    this.#generation = order['generation'] ?? '';
    return order;
  }

  #jitter(): Millis {
    const { seed, machine, number } = this.#boot.deps;
    return NEXT_AGAIN * draw(seed, 'jitter', machine.name, number, String(this.#pauses++));
  }

  async #tellOnce(): Promise<boolean> {
    const { notes } = this.#boot.deps;
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    try {
      for (let report = this.#untold[0]; report !== undefined; report = this.#untold[0]) {
        report.set('generation', this.#generation);
        const body = report;
        const { status } = await notes.timed('report', () =>
          this.#ask('/boot/v1/report', { method: 'POST', body, agent }),
        );
        this.#throwIfOver(status);
        if (status >= 500) return false;
        this.#untold.shift();
      }
      return true;
    } catch (error) {
      if (error instanceof CutOff) throw error;
      this.#boot.deps.signal.throwIfAborted();
      return false;
    } finally {
      agent.destroy();
    }
  }

  async #ask(path: string, question: Partial<Question>): Promise<Answer> {
    const { signal } = this.#boot.deps;
    return ask(`${this.#url}${path}`, {
      from: this.address,
      trust: this.#trust,
      signal,
      ...(this.#bearer === undefined ? {} : { bearer: this.#bearer }),
      ...question,
    });
  }

  #throwIfOver(status: number): void {
    if ([401, 403, 409, 410].includes(status)) throw new CutOff(`status ${status}`);
  }

  #pause(duration: Millis): Promise<void> {
    const { clock, signal } = this.#boot.deps;
    return clock.sleepUntil(clock.now() + duration, signal);
  }
}

function lines({ body }: Answer): Record<string, string> {
  const pairs = body
    .toString()
    .split('\n')
    .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]);
  return Object.fromEntries(pairs) as Record<string, string>;
}
