import type { Resource } from '../../saga/resource-plan.ts';
import { done } from '../../saga/step.ts';
import type { ServerSpec } from '../provider.ts';
import type { Holding } from './holding.ts';

export interface AgentAccess {
  readonly attemptId: string;
}

/** The right of one server's agent to speak to us. Its credential is derived from this row, and dies with it. */
export const agentAccess: Resource<{ spec: ServerSpec; holding: Holding }, AgentAccess, undefined> = {
  async create(_key, { spec, holding }, ctx) {
    const { attemptId, requestId, tenantId } = spec;
    await ctx.transaction((tx) =>
      tx
        .insertInto('agents')
        .values({
          attempt_id: attemptId,
          request_id: requestId,
          machine_id: holding.machineId,
          tenant_id: tenantId,
          protocol: null,
          host_key: null,
          phoned_home_at: null,
          heartbeat_at: null,
          metrics: null,
          created_at: ctx.clock.now(),
          revoked_at: null,
        })
        .onConflict((conflict) => conflict.doNothing())
        .execute(),
    );
    return done({ attemptId });
  },

  async find(_key, ctx) {
    const agent = await ctx.read
      .selectFrom('agents')
      .select('attempt_id')
      .where('attempt_id', '=', ctx.subject)
      .where('revoked_at', 'is', null)
      .executeTakeFirst();
    return agent && { attemptId: agent.attempt_id };
  },

  async delete(_key, _ref, ctx) {
    await ctx.transaction((tx) =>
      tx
        .updateTable('agents')
        .set({ revoked_at: ctx.clock.now() })
        .where('attempt_id', '=', ctx.subject)
        .where('revoked_at', 'is', null)
        .execute(),
    );
    return done();
  },
};
