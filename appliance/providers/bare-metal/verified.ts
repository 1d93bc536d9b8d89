import type { EventLog } from '../../events/event-log.ts';
import type { Millis } from '../../kernel/clock.ts';
import { RackstartError } from '../../kernel/errors.ts';
import type { Ids } from '../../kernel/ids.ts';
import { hardwareOf } from '../../machines/boot-deadlines.ts';
import { failureOf } from '../../machines/boot-drive.ts';
import { concludeBoot, lastBootOf } from '../../machines/boot-records.ts';
import { noteProof } from '../../machines/handoffs.ts';
import { giveUp } from '../../machines/lateness.ts';
import { moveMachine } from '../../machines/machine-states.ts';
import type { ProofDeps } from '../../machines/proof.ts';
import { proofDue, startFromDisk, unproven } from '../../machines/proof.ts';
import type { Resource } from '../../saga/resource-plan.ts';
import { done, wait } from '../../saga/step.ts';
import type { StepContext } from '../../saga/step.ts';
import type { AgentRow, BootSessionRow } from '../../store/schema.ts';
import type { probeSsh } from '../ssh-probe.ts';
import type { ServerSpec } from '../provider.ts';
import type { SshProof } from '../proven-ssh.ts';
import { proveSsh } from '../proven-ssh.ts';
import type { Holding } from './holding.ts';
import { isFirst } from './race.ts';

export interface VerifyDeps extends ProofDeps {
  readonly events: EventLog;
  readonly ids: Ids;
  readonly probe: typeof probeSsh;
}

/** A proof holds nothing, so there is nothing to give back. */
const nothingHeld = {
  find: () => Promise.resolve(undefined),
  delete: () => Promise.resolve(done()),
};

/**
 * The installed system's agent has said that it runs, with the host key that the ramdisk reported. One that does not by its
 * deadline is started from its disk, once: a kexec may hang where a start by the firmware does not.
 */
export function phonedHome(deps: VerifyDeps): Resource<ServerSpec, { at: Millis }, undefined> {
  return {
    ...nothingHeld,
    async create(_key, { attemptId }, ctx) {
      const since = await deps.events.position();
      const agent = await agentOf(ctx, attemptId);
      const boot = await bootOf(ctx, attemptId);
      const at = agent.phoned_home_at;
      if (at !== null) {
        if (boot.proof_due !== null) await ctx.transaction((tx) => noteProof(tx, deps, boot, at));
        return done({ at });
      }
      // A kexec that came back is told by the ramdisk; no agent will come.
      if (boot.state === 'failed') throw failureOf(boot);
      const until = (due: Millis) => {
        const failed = { type: 'boot.stage', key: agent.machine_id, since } as const;
        return wait(due, { type: 'agent.phoned-home', key: attemptId, since }, failed);
      };
      const due = await proofDue(boot, ctx.startedAt, deps, ctx);
      if (ctx.clock.now() < due) return until(due);
      if (boot.rescued_at === null) {
        await startFromDisk(boot, deps, ctx);
        return until(await proofDue(await bootOf(ctx, attemptId), ctx.startedAt, deps, ctx));
      }
      const late = await unproven(boot, deps, ctx);
      await ctx.transaction((tx) => giveUp(tx, boot, late));
      throw late.error;
    },
  };
}

export function heartbeatSeen(deps: VerifyDeps): Resource<ServerSpec, { at: Millis }, undefined> {
  return {
    ...nothingHeld,
    async create(_key, { attemptId, hostname }, ctx) {
      const since = await deps.events.position();
      const { heartbeat_at: at, phoned_home_at: home } = await agentOf(ctx, attemptId);
      if (at !== null) return done({ at });
      const late = await provenBy(home, attemptId, deps, ctx);
      const beat = { type: 'agent.heartbeat-received', key: attemptId, since } as const;
      if (ctx.clock.now() < late) return wait(late, beat);
      throw new RackstartError('boot.stage-late', `The agent on ${hostname} has not sent a heartbeat.`, {
        details: { attemptId, stage: 'ssh', silentForMs: ctx.clock.now() - (home ?? ctx.startedAt) },
      });
    },
  };
}

/** Until when what comes with the phone-home has to be there; while that is awaited, it is what fails. */
async function provenBy(
  home: Millis | null,
  attemptId: string,
  { deadlines }: VerifyDeps,
  ctx: StepContext<undefined>,
): Promise<Millis> {
  const { machine_id } = await bootOf(ctx, attemptId);
  const { milliseconds } = await deadlines.of(await hardwareOf(ctx.read, machine_id), 'ssh');
  return (home === null ? ctx.clock.now() : deadlines.heardSince(home)) + milliseconds;
}

/** SSH answers at the server's first address with the host key that our own ramdisk reported, and would let the tenant in. */
export function sshAccepted(deps: VerifyDeps): Resource<{ spec: ServerSpec; holding: Holding }, SshProof, undefined> {
  return {
    ...nothingHeld,
    async create(_key, { spec, holding }, ctx) {
      const { host_key: hostKey, phoned_home_at: home } = await agentOf(ctx, spec.attemptId);
      const [first] = holding.addresses;
      const [publicKey] = spec.sshKeys;
      if (hostKey === null || first === undefined || publicKey === undefined) {
        throw new RackstartError('internal', 'Verification began before host key, address and SSH key were known.');
      }
      const target = { host: first.address, port: 22, username: 'root', hostKey, publicKey };
      const until = await provenBy(home, spec.attemptId, deps, ctx);
      return proveSsh(target, { probe: deps.probe, until }, ctx);
    },
  };
}

/**
 * The last act: from here on the machine is a server. Its way back is the release of what it holds. Had somebody else claimed
 * its boot since the install, it would not be known who answered the proofs; and where another machine was tried beside it, one
 * of them is the server. Errors: `boot.claim-conflict`, `cancelled`.
 */
export function handedOver({ events }: VerifyDeps): Resource<Holding, { machineId: string }, undefined> {
  return {
    ...nothingHeld,
    async create(_key, { machineId }, ctx) {
      const at = ctx.clock.now();
      await ctx.transaction(async (tx) => {
        // Again after a crash: it was handed over before.
        if (!(await moveMachine(tx, events, { machineId, to: 'deployed', actor: 'saga', at }))) return;
        if (!(await concludeBoot(tx, ctx.subject, at))) {
          throw new RackstartError(
            'boot.claim-conflict',
            `The boot of machine ${machineId} was claimed a second time.`,
          );
        }
        if (await isFirst(tx, events, ctx.subject, at)) return;
        throw new RackstartError('cancelled', 'Another machine was ready first.');
      });
      return done({ machineId });
    },
  };
}

async function bootOf(ctx: StepContext<undefined>, attemptId: string): Promise<BootSessionRow> {
  const boot = await lastBootOf(ctx.read, attemptId);
  if (boot === undefined) throw new RackstartError('internal', `Attempt ${attemptId} has booted nothing.`);
  return boot;
}

async function agentOf(ctx: StepContext<undefined>, attemptId: string): Promise<AgentRow> {
  const agent = await ctx.read.selectFrom('agents').selectAll().where('attempt_id', '=', attemptId).executeTakeFirst();
  if (agent === undefined) throw new RackstartError('internal', `Attempt ${attemptId} has no agent.`);
  return agent;
}
