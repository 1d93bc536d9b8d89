import type { EventType } from '../../events/catalogue.ts';
import type { EventLog } from '../../events/event-log.ts';
import type { Millis } from '../../kernel/clock.ts';
import { RackstartError } from '../../kernel/errors.ts';
import { failureOf } from '../../machines/boot-drive.ts';
import { concludeBoot, lastBootOf } from '../../machines/boot-records.ts';
import { moveMachine } from '../../machines/machine-states.ts';
import type { Resource } from '../../saga/resource-plan.ts';
import { done, wait } from '../../saga/step.ts';
import type { StepContext } from '../../saga/step.ts';
import type { AgentRow } from '../../store/schema.ts';
import type { probeSsh } from '../ssh-probe.ts';
import type { ServerSpec } from '../provider.ts';
import type { SshProof } from '../proven-ssh.ts';
import { proveSsh } from '../proven-ssh.ts';
import type { Holding } from './holding.ts';

export interface VerifyDeps {
  readonly events: EventLog;
  /** From the handoff to the last proof. */
  readonly deadline: Millis;
  readonly probe: typeof probeSsh;
}

/** A proof holds nothing, so there is nothing to give back. */
const nothingHeld = {
  find: () => Promise.resolve(undefined),
  delete: () => Promise.resolve(done()),
};

/** The installed system's agent has said that it runs, with the host key that the ramdisk reported. */
export function phonedHome(deps: VerifyDeps): Resource<ServerSpec, { at: Millis }, undefined> {
  return awaitAgent(deps, 'agent.phoned-home', (agent) => agent.phoned_home_at, 'phoned home');
}

export function heartbeatSeen(deps: VerifyDeps): Resource<ServerSpec, { at: Millis }, undefined> {
  return awaitAgent(deps, 'agent.heartbeat-received', (agent) => agent.heartbeat_at, 'sent a heartbeat');
}

function awaitAgent(
  { events, deadline }: VerifyDeps,
  type: EventType,
  seen: (agent: AgentRow) => Millis | null,
  what: string,
): Resource<ServerSpec, { at: Millis }, undefined> {
  return {
    ...nothingHeld,
    async create(_key, { attemptId, hostname }, ctx) {
      const since = await events.position();
      const agent = await agentOf(ctx, attemptId);
      const at = seen(agent);
      if (at !== null) return done({ at });
      // A kexec that came back is told by the ramdisk; no agent will come.
      const boot = await lastBootOf(ctx.read, attemptId);
      if (boot?.state === 'failed') throw failureOf(boot);
      const late = ctx.startedAt + deadline;
      const failed = { type: 'boot.stage', key: agent.machine_id, since } as const;
      if (ctx.clock.now() < late) return wait(late, { type, key: attemptId, since }, failed);
      throw new RackstartError('boot.stage-late', `The agent on ${hostname} has not ${what}.`, {
        details: { attemptId, waitedMs: ctx.clock.now() - ctx.startedAt },
      });
    },
  };
}

/** SSH answers at the server's first address with the host key that our own ramdisk reported, and would let the tenant in. */
export function sshAccepted(deps: VerifyDeps): Resource<{ spec: ServerSpec; holding: Holding }, SshProof, undefined> {
  return {
    ...nothingHeld,
    async create(_key, { spec, holding }, ctx) {
      const { host_key: hostKey } = await agentOf(ctx, spec.attemptId);
      const [first] = holding.addresses;
      const [publicKey] = spec.sshKeys;
      if (hostKey === null || first === undefined || publicKey === undefined) {
        throw new RackstartError('internal', 'Verification began before host key, address and SSH key were known.');
      }
      const target = { host: first.address, port: 22, username: 'root', hostKey, publicKey };
      return proveSsh(target, deps, ctx);
    },
  };
}

/**
 * The last act: from here on the machine is a server. Its way back is the release of what it holds. Had somebody else claimed
 * its boot since the install, it would not be known who answered the proofs. Errors: `boot.claim-conflict`.
 */
export function handedOver({ events }: VerifyDeps): Resource<Holding, { machineId: string }, undefined> {
  return {
    ...nothingHeld,
    async create(_key, { machineId }, ctx) {
      const at = ctx.clock.now();
      await ctx.transaction(async (tx) => {
        // Again after a crash: it was handed over before.
        if (!(await moveMachine(tx, events, { machineId, to: 'deployed', actor: 'saga', at }))) return;
        if (await concludeBoot(tx, ctx.subject, at)) return;
        throw new RackstartError('boot.claim-conflict', `The boot of machine ${machineId} was claimed a second time.`);
      });
      return done({ machineId });
    },
  };
}

async function agentOf(ctx: StepContext<undefined>, attemptId: string): Promise<AgentRow> {
  const agent = await ctx.read.selectFrom('agents').selectAll().where('attempt_id', '=', attemptId).executeTakeFirst();
  if (agent === undefined) throw new RackstartError('internal', `Attempt ${attemptId} has no agent.`);
  return agent;
}
