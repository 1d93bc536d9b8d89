import type { FastifyInstance } from 'fastify';
import type { Static } from 'typebox';

import type { AgentDesk } from '../boot-plan.ts';
import { bearerOf, requireProtocol } from './credentials.ts';
import { heartbeatForm, phoneHomeForm } from './messages.ts';

/** What installed servers say, by TLS alone, each on a credential of its own. */
export function registerAgent(app: FastifyInstance, agents: AgentDesk): void {
  app.post<{ Body: Static<typeof phoneHomeForm> }>(
    '/agent/v1/phone-home',
    { preValidation: requireProtocol, schema: { body: phoneHomeForm } },
    async (request, reply) => {
      const { body } = request;
      await agents.phoneHome(bearerOf(request, 'agent.refused'), {
        protocol: Number(body.protocol),
        server: body.server,
        hostname: body.hostname,
        machineId: body.machine_id,
        hostKey: body.host_key,
        bootId: body.boot_id,
        uptime: Number(body.uptime),
        started: Number(body.started),
      });
      return reply.code(204).send();
    },
  );

  app.post<{ Body: Static<typeof heartbeatForm> }>(
    '/agent/v1/heartbeat',
    { preValidation: requireProtocol, schema: { body: heartbeatForm } },
    async (request, reply) => {
      const { body } = request;
      await agents.heartbeat(bearerOf(request, 'agent.refused'), {
        protocol: Number(body.protocol),
        server: body.server,
        uptime: Number(body.uptime),
        load1: Number(body.load1),
        memoryTotalKib: Number(body.memory_total_kib),
        memoryAvailableKib: Number(body.memory_available_kib),
        diskTotalKib: Number(body.disk_total_kib),
        diskUsedKib: Number(body.disk_used_kib),
      });
      return reply.code(204).send();
    },
  );
}
