import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Static } from 'typebox';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import { Secret } from '../../appliance/kernel/secret.ts';
import { parseMac } from '../boot-client.ts';
import type { BootDirector } from '../boot-plan.ts';
import { bearerOf, requireProtocol } from './credentials.ts';
import { parseHealthCheck } from './health-check.ts';
import { parseInspection } from './inspection.ts';
import { PROTOCOL, asReport, claimForm, nextQuery, orderText, printable, reportForm } from './messages.ts';
import { systemTar } from './system-tar.ts';
import { parseWipedDisk } from './wiped-disk.ts';
import type { Witness } from './witness.ts';

export interface BootDeps {
  readonly director: BootDirector;
  readonly witness: Witness;
  /** Seconds since the epoch, for the files of the new system. */
  readonly now: () => Date;
  /** Aborts when the server closes, so that no long poll holds it up. */
  readonly closing: AbortSignal;
}

/** What the ramdisk says and asks, by TLS alone. */
export function registerBoot(app: FastifyInstance, { director, witness, now, closing }: BootDeps): void {
  app.post<{ Body: Static<typeof claimForm> }>(
    '/boot/v1/claim',
    { preValidation: requireProtocol, schema: { body: claimForm }, config: { seen: 'claim' } },
    async (request, reply) => {
      const { token, nonce, uuid, ramdisk, mac: macText } = request.body;
      const mac = parseMac(macText);
      if (mac === undefined) throw new RackstartError('boot.token-refused', 'There is no such machine.');
      witness.remark(request, { mac });
      const from = witness.peer(request);
      const grant = await director.claim({
        protocol: Number(PROTOCOL),
        token: new Secret(token),
        nonce,
        mac,
        uuid,
        ...(ramdisk === undefined ? {} : { ramdisk }),
        from,
      });
      reply.type('text/plain; charset=utf-8');
      return orderText({ protocol: PROTOCOL, bearer: grant.bearer.reveal(), ...grant.order });
    },
  );

  app.post<{ Body: Static<typeof reportForm> }>(
    '/boot/v1/report',
    { schema: { body: reportForm }, config: { seen: 'report' } },
    async (request, reply) => {
      const report = asReport(request.body);
      const { stage, status: result, uptime } = report;
      witness.remark(request, { facts: { stage, result, uptime } });
      await director.report(bearerOf(request), report);
      // Now it is the ramdisk's word, and what it says is worth keeping.
      witness.remark(request, { said: { name: `${stage} ${result}`, facts: { ...report.facts, uptime } } });
      return reply.code(204).send();
    },
  );

  app.post<{ Body: string }>(
    '/boot/v1/log',
    { bodyLimit: LOG_LIMIT, config: { seen: 'log' } },
    async (request, reply) => {
      await director.log(bearerOf(request), printable(text(request)));
      return reply.code(204).send();
    },
  );

  app.post<{ Body: string }>(
    '/boot/v1/inspection',
    { bodyLimit: INSPECTION_LIMIT, config: { seen: 'inspection' } },
    async (request, reply) => {
      await director.inspection(bearerOf(request), parseInspection(text(request)));
      return reply.code(204).send();
    },
  );

  app.post<{ Body: string }>(
    '/boot/v1/check',
    { bodyLimit: INSPECTION_LIMIT, config: { seen: 'check' } },
    async (request, reply) => {
      await director.check(bearerOf(request), parseHealthCheck(text(request)));
      return reply.code(204).send();
    },
  );

  app.post<{ Body: string }>('/boot/v1/wiped', { config: { seen: 'wiped' } }, async (request, reply) => {
    await director.wiped(bearerOf(request), parseWipedDisk(text(request)));
    return reply.code(204).send();
  });

  app.get('/boot/v1/files', { config: { seen: 'files' } }, async (request, reply) => {
    const files = await director.files(bearerOf(request));
    return reply.type('application/x-tar').send(await systemTar(files, now()));
  });

  app.get<{ Querystring: Static<typeof nextQuery> }>(
    '/boot/v1/next',
    { schema: { querystring: nextQuery }, config: { seen: 'next' } },
    async (request, reply) => {
      const gone = new AbortController();
      reply.raw.once('close', () => gone.abort());
      const signal = AbortSignal.any([gone.signal, closing]);
      const next = await orUndefined(
        director.next(bearerOf(request), Number(request.query.generation), signal),
        signal,
      );
      // A machine that waits for days asks every half a minute.
      if (next === undefined) witness.remark(request, { untold: true });
      if (next === undefined) return reply.code(204).send();
      const lines = { protocol: PROTOCOL, bearer: next.bearer.reveal(), ...next.order };
      return reply.type('text/plain; charset=utf-8').send(orderText(lines));
    },
  );
}

const LOG_LIMIT = 1024 * 1024;
// A slot of memory takes about half a KiB, and what a switch says three at most.
const INSPECTION_LIMIT = 256 * 1024;

/** Nothing came: also when there is nobody left to tell, or we are about to close. */
async function orUndefined<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

// Both text/plain and forms are read by the server; only the route knows which of them it wants.
function text({ body }: FastifyRequest): string {
  if (typeof body === 'string') return body;
  throw new RackstartError('request.invalid', 'The body must be text/plain.');
}
