import type { KeyObject } from 'node:crypto';

import type { AgentDesk, Heartbeat, PhoneHome } from '../../pxe/boot-plan.ts';
import { deriveToken, isToken, tokenId } from '../../pxe/http/token.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Secret } from '../kernel/secret.ts';
import type { AgentRow } from '../store/schema.ts';
import type { Reader, Store, Tx } from '../store/store.ts';
import { lastBootOf, recordPhoneHome, tellTimeline } from './boot-records.ts';
import { PROTOCOL, checkProtocol } from './protocol.ts';
import { toldTenant } from './told-tenant.ts';

export interface AgentDeskDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly tokenKey: KeyObject;
  readonly clock: Clock;
}

/** Where installed servers speak to us, each with a credential of its own that dies with its attempt. */
export class StoreAgentDesk implements AgentDesk {
  readonly #deps: AgentDeskDeps;

  constructor(deps: AgentDeskDeps) {
    this.#deps = deps;
  }

  /** Counts once; a repeated one, after a lost answer or a reboot, is welcome and changes nothing. */
  async phoneHome(credential: Secret, message: PhoneHome): Promise<void> {
    const { store, events, clock } = this.#deps;
    checkProtocol(message.protocol);
    const agent = await this.#authenticate(store.read, credential, message.server);
    if (agent.host_key === null || !sameKey(agent.host_key, message.hostKey)) {
      throw new RackstartError(
        'agent.refused',
        'The server shows another host key than the one it was installed with.',
      );
    }
    const at = clock.now();
    await store.transaction(async (tx) => {
      const first = await tx
        .updateTable('agents')
        .set({ phoned_home_at: at, protocol: PROTOCOL })
        .where('attempt_id', '=', agent.attempt_id)
        .where('phoned_home_at', 'is', null)
        .where('revoked_at', 'is', null)
        .executeTakeFirst();
      if (first.numUpdatedRows !== 1n) return;
      await recordPhoneHome(tx, agent.attempt_id, message, at);
      const { hostKey, bootId, uptime } = message;
      const data = { ...ids(agent), hostKey, bootId, uptime };
      await tellTimeline(tx, agent, { at, source: 'agent', name: 'phone-home', detail: { bootId, uptime } });
      await events.append(tx, 'agent.phoned-home', { ...(await about(tx, agent)), data });
    });
  }

  async heartbeat(credential: Secret, message: Heartbeat): Promise<void> {
    const { store, events, clock } = this.#deps;
    checkProtocol(message.protocol);
    const agent = await this.#authenticate(store.read, credential, message.server);
    const { protocol: _, server: __, ...metrics } = message;
    const at = clock.now();
    const beat = { heartbeat_at: at, metrics: JSON.stringify(metrics) };
    await store.transaction(async (tx) => {
      const ours = tx
        .updateTable('agents')
        .set(beat)
        .where('attempt_id', '=', agent.attempt_id)
        .where('revoked_at', 'is', null);
      const first = await ours.where('heartbeat_at', 'is', null).executeTakeFirst();
      if (first.numUpdatedRows === 0n) {
        await ours.execute();
        return;
      }
      await tellTimeline(tx, agent, { at, source: 'agent', name: 'first heartbeat', detail: metrics });
      await events.append(tx, 'agent.heartbeat-received', { ...(await about(tx, agent)), data: ids(agent) });
    });
  }

  async #authenticate(read: Reader, credential: Secret, server: string): Promise<AgentRow> {
    const attemptId = tokenId(credential);
    const agent = attemptId === undefined ? undefined : await agentOf(read, attemptId);
    if (agent?.request_id === server) {
      const boot = await lastBootOf(read, agent.attempt_id);
      const subject = boot && { id: agent.attempt_id, generation: boot.generation };
      if (subject && isToken(credential, this.#deps.tokenKey, 'agent', subject)) return agent;
    }
    throw new RackstartError('agent.refused', 'This agent has no say about this server.');
  }
}

/**
 * What the agent of an attempt's server shows us; it works until the attempt's `agents` row is revoked. It is of one boot:
 * what a boot that was cut off has given away opens nothing once the next one began.
 */
export function agentCredential(tokenKey: KeyObject, attemptId: string, generation: number): Secret {
  return deriveToken(tokenKey, 'agent', { id: attemptId, generation });
}

function agentOf(read: Reader, attemptId: string): Promise<AgentRow | undefined> {
  return read
    .selectFrom('agents')
    .selectAll()
    .where('attempt_id', '=', attemptId)
    .where('revoked_at', 'is', null)
    .executeTakeFirst();
}

// Type and base64; a comment behind them is not part of a key.
function sameKey(known: string, shown: string): boolean {
  const key = (text: string) => text.split(' ').slice(0, 2).join(' ');
  return key(known) === key(shown);
}

function ids({ attempt_id, request_id, machine_id }: AgentRow) {
  return { attemptId: attempt_id, requestId: request_id, machineId: machine_id };
}

async function about(tx: Tx, { attempt_id: key }: AgentRow) {
  return { key, tenantId: await toldTenant(tx, key), actor: 'agent' };
}
