import type { ChildProcess } from 'node:child_process';

import type { ErrorCode } from '../../appliance/kernel/errors.ts';
import { asRackstartError, RackstartError } from '../../appliance/kernel/errors.ts';
import { Secret } from '../../appliance/kernel/secret.ts';
import type { Plane, Probed } from '../../appliance/machines/rack.fixture.ts';
import { bmcCalls, LocalRack } from './rack.ts';
import type { MachineLook, Rack, RackBmc } from './rack.ts';

/**
 * A rack in one process and its daemon in another: BMC commands and probes go one way, what booting machines ask of the boot
 * plane the other. Calls are messages with a number; the answer has the same.
 */
interface Call {
  readonly call: number;
  readonly of: string;
  readonly args: readonly unknown[];
}
interface Answer {
  readonly answer: number;
  readonly value?: unknown;
  readonly error?: { readonly code: ErrorCode; readonly message: string } | 'aborted';
}
export type LinkMessage = Call | Answer;

/** One end of a link. */
class Link {
  readonly #send: (message: LinkMessage) => void;
  readonly #serve: (of: string, args: readonly unknown[]) => Promise<unknown>;
  readonly #open = new Map<number, PromiseWithResolvers<unknown>>();
  #calls = 0;

  constructor(send: (message: LinkMessage) => void, serve: (of: string, args: readonly unknown[]) => Promise<unknown>) {
    this.#send = send;
    this.#serve = serve;
  }

  /** What was asked and not answered yet. */
  get open(): Promise<unknown>[] {
    return [...this.#open.values()].map(({ promise }) => promise);
  }

  call(of: string, ...args: readonly unknown[]): Promise<unknown> {
    this.#calls += 1;
    const answer = Promise.withResolvers<unknown>();
    this.#open.set(this.#calls, answer);
    this.#send({ call: this.#calls, of, args: args.map(packed) });
    return answer.promise;
  }

  async hear(message: LinkMessage): Promise<void> {
    if ('call' in message) {
      const { call: answer } = message;
      try {
        this.#send({ answer, value: packed(await this.#serve(message.of, message.args.map(unpacked))) });
      } catch (error) {
        this.#send({ answer, error: isAbort(error) ? 'aborted' : refusal(error) });
      }
      return;
    }
    const open = this.#open.get(message.answer);
    this.#open.delete(message.answer);
    const { error } = message;
    if (error === undefined) open?.resolve(unpacked(message.value));
    else if (error === 'aborted') open?.reject(new DOMException('aborted', 'AbortError'));
    else open?.reject(new RackstartError(error.code, error.message));
  }
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

function refusal(error: unknown): { code: ErrorCode; message: string } {
  const { code, message } = asRackstartError(error);
  return { code, message };
}

/** The rack's end. A question to a daemon that was killed meanwhile is asked of the next one, as curl's retries do. */
export class RackHost {
  readonly rack: LocalRack;
  #daemon: { link: Link; died: Promise<undefined> } | undefined;
  #next = Promise.withResolvers<undefined>();

  constructor(size: number) {
    this.rack = new LocalRack(size, async (question) => {
      for (;;) {
        const daemon = this.#daemon;
        if (daemon === undefined) {
          await this.#next.promise;
          continue;
        }
        const answer = question(planeOf(daemon.link)).then((value) => ({ value }));
        // One that comes too late is nobody's.
        answer.catch(() => undefined);
        const answered = await Promise.race([answer, daemon.died]);
        if (answered !== undefined) return answered.value;
        if (this.#daemon === daemon) this.#daemon = undefined;
      }
    });
  }

  /** From here on this child is the daemon. */
  serve(child: ChildProcess, died: Promise<undefined>): (message: LinkMessage) => void {
    const link = new Link(
      (message) => {
        if (child.connected) child.send(message);
      },
      (of, args) => this.#obey(of, args),
    );
    this.#daemon = { link, died };
    this.#next.resolve(undefined);
    this.#next = Promise.withResolvers<undefined>();
    return (message) => void link.hear(message);
  }

  #obey(of: string, args: readonly unknown[]): Promise<unknown> {
    if (of === 'probe') return this.rack.probe(args[0] as Probed);
    if (of === 'rest') return this.rack.rest();
    if (of === 'look') return this.rack.look();
    const [number, ...rest] = args;
    const machine = this.rack.bmc(number as number) as unknown as Record<
      string,
      (...given: unknown[]) => Promise<unknown>
    >;
    const method = machine[of];
    if (method === undefined || !bmcCalls.some((call) => call === of)) throw new Error(`a BMC cannot ${of}`);
    return method.apply(machine, rest);
  }
}

/** The daemon's end. */
export class RemoteRack implements Rack {
  readonly #link: Link;

  constructor(send: (message: LinkMessage) => void, plane: () => Plane) {
    this.#link = new Link(send, (of, args) => {
      const [door = '', method = ''] = of.split('.');
      const target = plane()[door as keyof Plane] as unknown as Record<
        string,
        (...given: unknown[]) => Promise<unknown>
      >;
      const question = target[method];
      if (question === undefined) throw new Error(`nobody answers ${of}`);
      return question.apply(target, [...args]);
    });
  }

  hear(message: LinkMessage): Promise<void> {
    return this.#link.hear(message);
  }

  bmc(number: number): RackBmc {
    const calls = bmcCalls.map((call) => [call, (...args: unknown[]) => this.#link.call(call, number, ...args)]);
    return Object.fromEntries(calls) as RackBmc;
  }

  async probe(target: Probed): Promise<void> {
    await this.#link.call('probe', target);
  }

  async rest(): Promise<boolean> {
    const { open } = this.#link;
    await Promise.allSettled(open);
    return ((await this.#link.call('rest')) as boolean) || open.length > 0;
  }

  look(): Promise<readonly MachineLook[]> {
    return this.#link.call('look') as Promise<readonly MachineLook[]>;
  }
}

function planeOf(link: Link): Plane {
  const door = (name: string) =>
    new Proxy({}, { get: (_, method) => (...args: unknown[]) => link.call(`${name}.${String(method)}`, ...args) }); // prettier-ignore
  return { director: door('director'), agents: door('agents') } as Plane;
}

/**
 * Secrets can be printed nowhere but here: a message to a child of one's own is no log. A signal arrives as it is now: who asks
 * and is switched off meanwhile hears no answer.
 */
function packed(value: unknown): unknown {
  if (value instanceof AbortSignal) return { aborted: value.aborted };
  if (value instanceof Secret) return { secret: value.reveal() };
  return mapped(value, packed);
}

function unpacked(value: unknown): unknown {
  if (typeof value === 'object' && value !== null && 'secret' in value) return new Secret(String(value.secret));
  if (typeof value === 'object' && value !== null && 'aborted' in value) {
    return value.aborted === true ? AbortSignal.abort() : new AbortController().signal;
  }
  return mapped(value, unpacked);
}

function mapped(value: unknown, each: (value: unknown) => unknown): unknown {
  if (Array.isArray(value)) return value.map(each);
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, each(one)]));
}
