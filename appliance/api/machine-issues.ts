import { Type } from 'typebox';
import type { Static } from 'typebox';

import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { acceptInventory } from '../machines/inventory-drift.ts';
import { isIssueName, issueTitle, issuesOf, resolveIssue } from '../machines/machine-issues.ts';
import type { MachineIssueRow } from '../store/schema.ts';
import type { Reader, Store } from '../store/store.ts';
import { doneBy } from './auth.ts';
import { Id, IdParams, MaybeTimestamp, Timestamp, iso, maybeIso, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';

export interface IssueRouteDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly clock: Clock;
}

const Name = Type.String({ minLength: 1, maxLength: 64, pattern: '^[a-z]+(-[a-z]+)*$' });

/** Something that is, or was, wrong with a machine. */
export const Issue = Type.Object({
  id: Id,
  type: Name,
  severity: Type.Enum(['info', 'warning', 'critical'], {
    description: 'A critical one keeps the machine from orders: it is quarantined until an operator readmits it.',
  }),
  title: Type.String(),
  message: Type.String({ description: 'The particulars.' }),
  remedy: Type.String({ description: 'What to do about it.' }),
  evidence: Type.Record(Type.String(), Type.Unknown(), { description: 'What it was concluded from.' }),
  raisedAt: Timestamp,
  seenAt: Type.String({ format: 'date-time', description: 'When it was found last.' }),
  resolvedAt: MaybeTimestamp,
  resolvedBy: Type.Union([Type.String(), Type.Null()]),
});

export function presentIssue(row: MachineIssueRow): Static<typeof Issue> {
  return {
    id: row.id,
    type: row.type,
    severity: row.severity,
    title: issueTitle(row.type),
    message: row.message,
    remedy: row.remedy,
    evidence: JSON.parse(row.evidence) as Record<string, unknown>,
    raisedAt: iso(row.raised_at),
    seenAt: iso(row.seen_at),
    resolvedAt: maybeIso(row.resolved_at),
    resolvedBy: row.resolved_by,
  };
}

const tags = ['machines'];
const MOST = 200;

/** What is wrong with machines, and an operator's word that it is not; an operator's alone. */
export function issueRoutes(api: Api, { store, events, clock }: IssueRouteDeps): void {
  const { read } = store;
  api.get(
    '/machines/:id/issues',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: `List what is and was wrong with a machine, the newest first; at most ${String(MOST)}`,
        params: IdParams,
        response: { 200: Type.Object({ issues: Type.Array(Issue) }), ...problems },
      },
    },
    async (request) => {
      const { id } = request.params;
      await requireMachine(read, id);
      return { issues: (await issuesOf(read, id, MOST)).map(presentIssue) };
    },
  );

  api.post(
    '/machines/:id/issues/:type/resolve',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Say that an open issue is none any more; a quarantine stays until the machine is readmitted',
        params: Type.Object({ id: Id, type: Name }, strict),
        body: Type.Object(
          { reason: Type.String({ minLength: 1, maxLength: 500, description: 'Kept with the event.' }) },
          strict,
        ),
        response: { 200: Type.Object({ issues: Type.Array(Issue) }), ...problems },
      },
    },
    async (request) => {
      const { id, type } = request.params;
      await requireMachine(read, id);
      const { actor: by, origin } = doneBy(request);
      const { reason } = request.body;
      await store.transaction(async (tx) => {
        const resolved =
          isIssueName(type) &&
          (await resolveIssue(tx, events, { machineId: id, type, by, reason, origin, at: clock.now() }));
        if (resolved && type === 'inventory-drift') await acceptInventory(tx, id, clock.now());
        if (!resolved) throw new RackstartError('not-found', `Machine ${id} has no open issue ${type}.`);
      });
      return { issues: (await issuesOf(read, id, MOST)).map(presentIssue) };
    },
  );
}

/** Errors: `not-found`. */
export async function requireMachine(read: Reader, id: string): Promise<void> {
  const machine = await read.selectFrom('machines').select('id').where('id', '=', id).executeTakeFirst();
  if (machine === undefined) throw new RackstartError('not-found', `There is no machine ${id}.`);
}
