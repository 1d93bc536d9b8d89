import type { Diagnosis } from '../machines/diagnosis/diagnose.ts';
import type { Connection } from '../providers/provider.ts';
import type { Reason } from '../saga/step.ts';
import type { AgentRow, AttemptRow, RequestRow, SagaStepRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import { isTenants } from './attempts.ts';
import { prerequisitesOf } from './prerequisites.ts';
import { attemptsOf, findRequest } from './request-records.ts';
import type { ServerStatus } from './request-states.ts';
import { requestStates } from './request-states.ts';

/** A server as people and programs see it: the request, how far it is, and how to reach it. */
export interface ServerView {
  readonly request: RequestRow;
  readonly status: ServerStatus;
  readonly flavor: string;
  readonly image: string;
  readonly region: string;
  readonly project: string;
  readonly connection: Connection | null;
  readonly failure: Reason | null;
  /** Servers that had to be completed before it was begun. */
  readonly dependsOn: readonly string[];
  readonly attempts: readonly AttemptView[];
  /** What operators alone are told is left out. */
  readonly forTenant: boolean;
}

export interface AttemptView {
  readonly attempt: AttemptRow;
  /** The machine's name and firmware, once one was chosen. */
  readonly machine: { readonly id: string; readonly name: string; readonly firmware: 'bios' | 'uefi' | null } | null;
  /** Why it failed, where a boot did: for operators alone. */
  readonly diagnosis: Diagnosis | null;
  readonly steps: readonly StepView[];
  readonly agent: AgentRow | undefined;
}

/** A step of the saga; one that waits for a person says so. */
export interface StepView extends Omit<SagaStepRow, 'state'> {
  readonly state: SagaStepRow['state'] | 'awaiting-input';
}

/** Errors: `not-found`; another tenant's server is not there either. */
export async function viewServer(read: Reader, requestId: string, tenantId?: string): Promise<ServerView> {
  const request = await findRequest(read, requestId, tenantId);
  const names = await read
    .selectFrom('requests')
    .innerJoin('flavors', 'flavors.id', 'requests.flavor_id')
    .innerJoin('images', 'images.id', 'requests.image_id')
    .innerJoin('regions', 'regions.id', 'requests.region_id')
    .innerJoin('projects', 'projects.id', 'requests.project_id')
    .select(['flavors.name as flavor', 'images.name as image', 'images.version', 'regions.name as region'])
    .select('projects.name as project')
    .where('requests.id', '=', requestId)
    .executeTakeFirstOrThrow();
  const attempts: AttemptView[] = [];
  for (const attempt of await attemptsOf(read, requestId)) {
    if (tenantId === undefined || isTenants(attempt)) attempts.push(await viewAttempt(read, attempt));
  }
  return {
    request,
    status: statusOf(request),
    flavor: names.flavor,
    image: `${names.image}:${names.version}`,
    region: names.region,
    project: names.project,
    connection: parsed(request.connection) as Connection | null,
    failure: parsed(request.failure) as Reason | null,
    dependsOn: await prerequisitesOf(read, requestId),
    attempts,
    forTenant: tenantId !== undefined,
  };
}

/** The attempt that the server is, or is to be: of two beside each other the older one, until either is the server. */
export function attemptInFront({ attempts }: Pick<ServerView, 'attempts'>): AttemptView | undefined {
  return attempts.find(({ attempt }) => isGoing(attempt)) ?? attempts.at(-1);
}

function isGoing({ outcome, outrun_at }: AttemptRow): boolean {
  return outrun_at === null && (outcome === 'running' || outcome === 'succeeded');
}

/** Newest first, at most `limit`. */
export async function listServers(read: Reader, tenantId: string | undefined, limit: number): Promise<ServerView[]> {
  const rows = await read
    .selectFrom('requests')
    .select('id')
    .$if(tenantId !== undefined, (query) => query.where('tenant_id', '=', tenantId ?? ''))
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit)
    .execute();
  const views: ServerView[] = [];
  for (const { id } of rows) views.push(await viewServer(read, id, tenantId));
  return views;
}

// On the way back a server that once worked is going, not failed.
function statusOf({ state, completed_at }: RequestRow): ServerStatus {
  return state === 'rolling-back' && completed_at !== null ? 'gone' : requestStates[state].status;
}

async function viewAttempt(read: Reader, attempt: AttemptRow): Promise<AttemptView> {
  const machine =
    attempt.machine_id === null
      ? undefined
      : await read
          .selectFrom('machines')
          .select(['id', 'name', 'firmware'])
          .where('id', '=', attempt.machine_id)
          .executeTakeFirst();
  const steps = await viewSteps(read, attempt.saga_id);
  const agent = await read.selectFrom('agents').selectAll().where('attempt_id', '=', attempt.id).executeTakeFirst();
  const failure = parsed(attempt.failure) as Reason | null;
  const diagnosis = (failure?.details?.['diagnosis'] ?? null) as Diagnosis | null;
  return { attempt, machine: machine ?? null, diagnosis, steps, agent };
}

async function viewSteps(read: Reader, sagaId: string): Promise<StepView[]> {
  const steps = await read
    .selectFrom('saga_steps')
    .selectAll()
    .where('saga_id', '=', sagaId)
    .orderBy('ordinal')
    .execute();
  if (!steps.some(({ state }) => state === 'waiting')) return steps;
  const waits = await read
    .selectFrom('saga_waits')
    .select('step')
    .where('saga_id', '=', sagaId)
    .where('type', '=', 'access.entered')
    .execute();
  const awaits = (name: string) => waits.some(({ step }) => step === name);
  return steps.map((step) => (awaits(step.name) ? { ...step, state: 'awaiting-input' } : step));
}

function parsed(json: string | null): unknown {
  return json === null ? null : JSON.parse(json);
}
