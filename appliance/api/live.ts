import { Type } from 'typebox';
import type { WebSocket } from '@fastify/websocket';

import type { Cursor, EventLog } from '../events/event-log.ts';
import type { EventFilter } from '../events/event-page.ts';
import { passes } from '../events/event-page.ts';
import { MINUTE, SECOND } from '../kernel/clock.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Reader } from '../store/store.ts';
import type { Caller } from '../tenants/api-key.ts';
import { isStillValid } from '../tenants/api-key.ts';
import type { Api } from './typed-api.ts';
import { tenantOf } from './auth.ts';
import { EventQuery, filterOf, present } from './events.ts';
import { problems, strict } from './schemas.ts';

const BATCH = 100;
// What may wait in our memory for a client: who has much to catch up with gets it as fast as it reads.
const MOST_UNREAD_BYTES = 1024 * 1024;
// Who reads nothing for so long is cut off; it comes back with its last position.
const READ_WITHIN = 30 * SECOND;
const ANSWER_WITHIN = MINUTE;

export interface LiveDeps {
  readonly events: EventLog;
  readonly read: Reader;
  readonly clock: Clock;
}

/**
 * Events as they happen, over WebSocket: each message one event with its position. A client that was away says the last
 * position it saw and misses nothing. Who works for a tenant sees its events, who works for none all.
 */
export function liveRoutes(api: Api, deps: LiveDeps): void {
  const { events } = deps;
  // Read before the connection is a WebSocket: what happens once the client has been told so is not missed.
  const starts = new WeakMap<object, number>();
  api.route({
    method: 'GET',
    url: '/events/live',
    config: { right: 'events:read' },
    schema: {
      tags: ['events'],
      summary: 'Follow events over WebSocket',
      querystring: Type.Object({ after: Type.Optional(Type.Integer({ minimum: 0 })), ...EventQuery }, strict),
      response: {
        101: Type.Null({ description: 'A WebSocket: each message one event, with its position.' }),
        ...problems,
      },
    },
    preHandler: async (request) => {
      filterOf(request.query, undefined);
      starts.set(request, request.query.after ?? (await events.position()));
    },
    handler: () => {
      throw new RackstartError('request.invalid', 'Events are followed over WebSocket; GET /events reads them.');
    },
    wsHandler: (socket, request) => {
      const wanted = filterOf(request.query, tenantOf(request.caller));
      follow(socket, deps, { from: starts.get(request) ?? 0, wanted, caller: request.caller });
    },
  });
}

interface Followed {
  readonly from: Cursor;
  readonly wanted: EventFilter;
  readonly caller: Caller;
}

function follow(socket: WebSocket, { events, read, clock }: LiveDeps, { from, wanted, caller }: Followed): void {
  // It may be gone already: nobody would tell us again.
  if (socket.readyState !== socket.OPEN) return;
  let cursor = from;
  let reading = false;
  let again = true;
  const pump = async () => {
    again = true;
    if (reading) return;
    reading = true;
    try {
      while (again && socket.readyState === socket.OPEN) {
        again = false;
        const batch = await events.read(cursor, BATCH);
        // Behind the reading: what was read may have come after the key was revoked, which is an event too.
        if (!(await isStillValid(read, caller, clock.now()))) {
          socket.close(1008, 'the key is not valid any more');
          return;
        }
        for (const event of batch) {
          if (passes(event, wanted) && !(await send(socket, JSON.stringify(present(event)), clock))) {
            socket.close(1013, 'read faster, or come back with your last position');
            return;
          }
          cursor = event.position;
        }
        again ||= batch.length === BATCH;
      }
    } catch {
      socket.close(1011, 'events can not be read now; come back with your last position');
    } finally {
      reading = false;
    }
  };
  const ignore = events.nudge(() => void pump());
  socket.on('close', ignore);
  // At once, and then with each ping: that a key expires is no event.
  void endWhenGone(socket, clock, () => void pump());
}

/** A peer that lost its power says nothing, and a connection that says nothing either stays for ever. */
async function endWhenGone(socket: WebSocket, clock: Clock, onPing: () => void): Promise<void> {
  const over = new AbortController();
  let answers = true;
  socket.on('pong', () => (answers = true)).on('close', () => over.abort());
  try {
    while (answers) {
      answers = false;
      socket.ping();
      onPing();
      await clock.sleepUntil(clock.now() + ANSWER_WITHIN, over.signal);
    }
    // What closes is waited for by ws itself.
    if (socket.readyState === socket.OPEN) socket.terminate();
  } catch (error) {
    if (!over.signal.aborted) throw error;
  }
}

/** Resolves when there is room for more; false when the client has not made any in time. Rejects when the connection ends. */
async function send(socket: WebSocket, text: string, clock: Clock): Promise<boolean> {
  const sent = Promise.withResolvers<true>();
  socket.send(text, (error) => (error == null ? sent.resolve(true) : sent.reject(error)));
  sent.promise.catch(() => undefined);
  if (socket.bufferedAmount <= MOST_UNREAD_BYTES) return true;
  const over = new AbortController();
  const late = clock.sleepUntil(clock.now() + READ_WITHIN, over.signal).then(() => false);
  late.catch(() => undefined);
  try {
    return await Promise.race([sent.promise, late]);
  } finally {
    over.abort();
  }
}
