import { AsyncLocalStorage } from 'node:async_hooks';
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import { Readable } from 'node:stream';

import { MINUTE } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import { Secret } from '../kernel/secret.ts';
import type { Store, Tx } from '../store/store.ts';
import { errorOf } from './problem.ts';
import type { Claim, RememberedAnswersDeps } from './remembered-answers.ts';
import { RememberedAnswers } from './remembered-answers.ts';
import { IdempotencyKey } from './schemas.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * What this POST does is done outside (at a BMC), before anything is committed, and is not the same when done twice. A
     * repeat that finds it begun and not answered is told that nobody knows, instead of doing it again.
     */
    actsOutside?: boolean;
  }
}

/** Longer than any handler works: what was claimed so long ago and not answered never will be. */
const STILL_AT_WORK = 2 * MINUTE;

/**
 * `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07) on every POST of a scope. Within a day the same request of
 * the same API key to the same route under the same key does what it does once, and gets the first answer again, marked by
 * `Idempotent-Replayed: true`. Another request under the key is refused (§2.7: 422), and so is one whose first is still
 * under way in another process (409, `Retry-After`); in the same process it waits for its first.
 *
 * **Once, also through a crash.** Returns the store that the routes write with: in the first transaction of such a request it
 * writes that the key is used, so that either both are committed or neither. A crash before leaves nothing, and the repeat
 * does it. A crash after it, and before the answer is kept (a second transaction, right before the answer goes out), leaves
 * a key without an answer: the repeat is told `idempotency.unknown-outcome`, and nothing is done twice. Why the answer is not
 * in the first transaction: it would have to stay open while a handler reads what it presents, and all other writers wait.
 *
 * Answers below 500 are remembered, refusals too, but for transient ones (by the catalogue of errors) and those that no
 * handler gave: what has not the right form, or comes from somebody who may not, is refused anew each time.
 *
 * A POST that writes nothing here and acts outside says `actsOutside`; one that neither does may run again after a crash.
 * One that declares the header itself keeps a promise of its own: orders of servers, whose keys live as long as they do. PUT,
 * PATCH and DELETE of this API do the same when done twice.
 */
export function rememberAnswers(scope: FastifyInstance, deps: RememberedAnswersDeps & { readonly log: Log }): Store {
  const { store, clock, log } = deps;
  const answers = new RememberedAnswers(deps);
  const turns = new Turns();
  const current = new AsyncLocalStorage<Use>();
  const uses = new WeakMap<FastifyRequest, Use>();

  scope.addHook('onRoute', (route) => {
    if (route.method !== 'POST' || !accept(route)) return;
    const { handler } = route;
    const { actsOutside = false } = route.config ?? {};
    route.handler = async function (request, reply) {
      const claim = claimOf(request);
      if (claim === undefined) return handler.call(this, request, reply);
      const use: Use = { claim, isClaimed: false, isPassing: false, leave: await turns.take(claim) };
      uses.set(request, use);
      try {
        const known = await answers.find(claim);
        if (known !== undefined) {
          uses.delete(request);
          use.leave();
          if (!known.isSameRequest) throw reused();
          if (known.state !== 'answered') throw clock.now() - known.created_at < STILL_AT_WORK ? inProgress() : lost();
          if (known.body === undefined || known.status === null) throw lost();
          return await replay(reply, known.status, known.body);
        }
        if (actsOutside) {
          use.isClaimed = await store.transaction((tx) => answers.claim(tx, claim, 'begun'));
          if (!use.isClaimed) throw inProgress();
        }
        return await current.run(use, () => handler.call(this, request, reply));
      } catch (error) {
        use.isPassing = errorOf(error).transient;
        throw error;
      }
    };
  });

  scope.addHook('onSend', async (request, { statusCode }, payload) => {
    const use = uses.get(request);
    if (use === undefined) return payload;
    uses.delete(request);
    const body = typeof payload === 'string' && payload !== '' ? payload : null;
    try {
      if (!(await keep(use, statusCode, body))) throw inProgress();
    } finally {
      use.leave();
    }
    return payload;
  });
  // Nothing was sent to somebody who is gone.
  scope.addHook('onResponse', async (request) => uses.get(request)?.leave());

  /** False when another process was first. */
  async function keep({ claim, isClaimed, isPassing }: Use, status: number, body: string | null): Promise<boolean> {
    try {
      if (status >= 500 || isPassing) {
        if (isClaimed) await answers.forget(claim);
        return true;
      }
      if (!isClaimed) return await answers.answerUnclaimed(claim, status, body);
      await answers.answer(claim, status, body);
      return true;
    } catch (error) {
      // What is done is done: its caller is told, and only a repeat will not be.
      log.warn({ err: error, route: claim.route }, 'an answer could not be kept');
      return true;
    }
  }

  return {
    dialect: store.dialect,
    read: store.read,
    close: () => store.close(),
    async transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
      const use = current.getStore();
      if (use === undefined || use.isClaimed) return store.transaction(work);
      const result = await store.transaction(async (tx) => {
        if (!(await answers.claim(tx, use.claim, 'done'))) throw inProgress();
        return work(tx);
      });
      use.isClaimed = true;
      return result;
    },
  };
}

/** A request that is worked on. */
interface Use {
  readonly claim: Claim;
  /** Whether the database says so. */
  isClaimed: boolean;
  /** Whether it was refused for a reason that passes. */
  isPassing: boolean;
  readonly leave: () => void;
}

/** Documents the header of a route and has it checked; false when the route does so itself. */
function accept(route: RouteOptions): boolean {
  const headers = (route.schema?.headers ?? { type: 'object', properties: {} }) as { properties: object };
  if (HEADER in headers.properties) return false;
  const properties = { ...headers.properties, [HEADER]: IdempotencyKey };
  route.schema = { ...route.schema, headers: { ...headers, properties } };
  return true;
}

const HEADER = 'idempotency-key';

function claimOf(request: FastifyRequest): Claim | undefined {
  const { method, headers, routeOptions, params, query, body } = request;
  const key = headers[HEADER];
  if (typeof key !== 'string') return undefined;
  return {
    caller: request.caller.keyId,
    presented: new Secret(headers.authorization?.split(' ')[1] ?? ''),
    route: `${method} ${routeOptions.url ?? ''}`,
    key,
    // An image is not read for this: its digest is in the query.
    asked: canonical([params, query, body instanceof Readable || body === undefined ? null : body]),
  };
}

/** JSON whose names are in order: the same request, however its client writes it. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([name, part]) => `${JSON.stringify(name)}:${canonical(part)}`).join()}}`;
}

function replay(reply: FastifyReply, status: number, body: string | null): FastifyReply {
  reply.code(status).header('idempotent-replayed', 'true');
  return body === null ? reply.send() : reply.type('application/json; charset=utf-8').send(body);
}

function reused(): RackstartError {
  return new RackstartError('idempotency.reused', 'This Idempotency-Key came with a different request before.');
}

function inProgress(): RackstartError {
  const message = 'The first request under this Idempotency-Key is still worked on.';
  return new RackstartError('idempotency.in-progress', message, { details: { retryAfter: 1 } });
}

function lost(): RackstartError {
  const message = 'What was asked for under this Idempotency-Key was done, or begun; its answer is lost.';
  return new RackstartError('idempotency.unknown-outcome', message);
}

/** In this process, the uses of one key come one after another. */
class Turns {
  readonly #taken = new Map<string, Promise<undefined>>();

  /** Resolves, when it is its turn, with how to end it; ending it twice is the same as once. */
  async take({ caller, route, key }: Claim): Promise<() => void> {
    const id = JSON.stringify([caller, route, key]);
    for (let before = this.#taken.get(id); before !== undefined; before = this.#taken.get(id)) await before;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#taken.set(id, promise);
    return () => {
      if (this.#taken.get(id) === promise) this.#taken.delete(id);
      resolve(undefined);
    };
  }
}
