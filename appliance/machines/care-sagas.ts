import { RackstartError, asRackstartError } from '../kernel/errors.ts';
import { saga } from '../saga/saga.ts';
import type { SagaDefinition } from '../saga/saga.ts';
import type { RetryPolicy } from '../saga/retry.ts';
import type { Step, StepContext, StepResult } from '../saga/step.ts';
import { done } from '../saga/step.ts';
import type { MachineRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import type { BootDriveDeps, Booted } from './boot-drive.ts';
import { driveBoot, stopMachine } from './boot-drive.ts';
import { moveMachine } from './machine-states.ts';
import type { Verdict } from './verdict.ts';
import { passVerdict } from './verdict.ts';
import { wipeVerdict } from './wipe-certificates.ts';

export interface CareParams {
  readonly machineId: string;
}

export type CareVerb = 'inspect' | 'wipe' | 'readmit';
export type CareSaga = SagaDefinition<CareParams, undefined>;

export interface CareDeps extends BootDriveDeps {
  /** After its last try a machine that can't be switched off is left on, and quarantined. */
  readonly retry: RetryPolicy;
}

/**
 * `inspect` reads a machine's hardware before its first order and checks its health; `wipe` erases its disks before its next tenant;
 * `readmit` does what a machine needs that comes out of quarantine: a wipe if a tenant's data may be on it, then both of the first.
 */
export function careSagas(deps: CareDeps): Readonly<Record<CareVerb, CareSaga>> {
  const off = powerOff(deps);
  const named = (name: CareVerb) => saga<CareParams, undefined>(name, 1);
  return {
    inspect: named('inspect').step('boot', inspect(deps)).step('power-off', off).build(),
    wipe: named('wipe').step('boot', wipe(deps)).step('power-off', off).build(),
    readmit: named('readmit')
      .step('wipe', onlyIfDirty(wipe(deps)))
      .step('inspect', { ...inspect(deps), begin: intoInspection(deps) })
      .step('power-off', off)
      .build(),
  };
}

type CareStep = Step<{ params: CareParams }, Booted | null, undefined>;

function inspect(deps: CareDeps): CareStep {
  return boot('inspect', deps, (booted, { read }) => requireInspected(read, booted));
}

function wipe(deps: CareDeps): CareStep {
  return boot('wipe', deps, async (booted, ctx) => {
    const verdict = await wipeVerdict(ctx.read, booted);
    const { machineId } = booted;
    await ctx.transaction((tx) => passVerdict(tx, deps, verdict, { machineId, by: 'wipe', at: ctx.clock.now() }));
  });
}

function boot(
  verb: 'inspect' | 'wipe',
  deps: CareDeps,
  conclude: (booted: Booted, ctx: StepContext<undefined>) => Promise<void>,
): CareStep {
  return {
    async run({ params: { machineId } }, ctx) {
      const booted = await tellingOfBmc(machineId, deps, ctx, () => driveBoot({ machineId, verb }, deps, ctx));
      if (booted.kind === 'done') await conclude(booted.output, ctx);
      return booted;
    },
    async undo({ params: { machineId } }, _booted, ctx) {
      try {
        await stopMachine(machineId, deps, ctx);
      } catch (error) {
        // The machine is quarantined in any case; a BMC that can't be reached is what the operator will be told.
        // One that was busy for a moment is asked again: else a machine nobody may use would run on.
        if (!asRackstartError(error).code.startsWith('bmc.') || deps.retry(ctx.tries) !== undefined) throw error;
        ctx.log.warn({ machineId, error }, 'machine could not be switched off');
      }
      return done();
    },
  };
}

/** Whether the BMC answers, and to the password that is known, shows when it is told to boot: it is an issue where it does not. */
async function tellingOfBmc(
  machineId: string,
  deps: CareDeps,
  ctx: StepContext<undefined>,
  drive: () => Promise<StepResult<Booted>>,
): Promise<StepResult<Booted>> {
  const tell = (verdict: Verdict) =>
    ctx.transaction((tx) => passVerdict(tx, deps, verdict, { machineId, by: 'bmc', at: ctx.clock.now() }));
  try {
    const result = await drive();
    if (result.kind === 'done') await tell({ findings: [], lookedAt: ['bmc-unreachable', 'bmc-refused'] });
    return result;
  } catch (error) {
    const { code, message } = asRackstartError(error);
    const evidence = { code };
    if (code === 'bmc.unreachable') {
      await tell({ findings: [{ type: 'bmc-unreachable', message, evidence }], lookedAt: [] });
    } else if (code === 'bmc.auth') {
      await tell({ findings: [{ type: 'bmc-refused', message, evidence }], lookedAt: ['bmc-unreachable'] });
    }
    throw error;
  }
}

/** A ramdisk that says `done` and has told nothing has neither inspected nor checked anything. */
async function requireInspected(read: Reader, { machineId, sessionId }: Booted): Promise<void> {
  const { cores, checked_at, opened_at } = await read
    .selectFrom('machines')
    .innerJoin('boot_sessions', 'boot_sessions.machine_id', 'machines.id')
    .select(['cores', 'checked_at', 'opened_at'])
    .where('boot_sessions.id', '=', sessionId)
    .executeTakeFirstOrThrow();
  if (cores !== null && checked_at !== null && checked_at >= opened_at) return;
  throw new RackstartError('boot.stage-failed', `Machine ${machineId} ended its inspection without telling anything.`);
}

function onlyIfDirty(step: CareStep): CareStep {
  return {
    ...step,
    async run(input, ctx) {
      const { disk_state } = await machineOf(ctx.read, input.params.machineId);
      return disk_state === 'clean' ? done(null) : step.run(input, ctx);
    },
  };
}

/** A machine that was wiped first leaves `releasing` here. */
function intoInspection({ events }: CareDeps): NonNullable<CareStep['begin']> {
  return ({ params: { machineId } }) =>
    async (tx, { startedAt: at }) => {
      await moveMachine(tx, events, { machineId, to: 'inspecting', actor: 'saga', at });
    };
}

function machineOf(read: Reader, id: string): Promise<MachineRow> {
  return read.selectFrom('machines').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
}

function powerOff(deps: BootDriveDeps): Step<{ params: CareParams }, void, undefined> {
  return {
    async run({ params: { machineId } }, ctx) {
      await stopMachine(machineId, deps, ctx);
      return done();
    },
    undo: { noUndo: 'a machine that is off stays off' },
  };
}
