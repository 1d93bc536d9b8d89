import type { EventLog } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import type { MachineIssueRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import { quarantineMachine } from './quarantine.ts';

export type Severity = MachineIssueRow['severity'];

/** What may be wrong with machines, by its stable name: its weight, its title, and what a person does about it. */
export const issueTypes = {
  'memory-fault': critical(
    'Memory returns what was not written',
    'Run the memory test of the vendor, replace the module that the event log of the BMC names, then readmit the machine.',
  ),
  'disk-unreadable': critical(
    'A disk has places that cannot be read',
    'Replace the disk, or its cable or slot if another disk fails there too, then readmit the machine.',
  ),
  'disk-smart-failing': critical(
    'A disk says of itself that it is failing',
    'Replace the disk, then readmit the machine.',
  ),
  'disk-missing': critical(
    'A disk that was there is gone',
    'Seat the disk again or replace it. If it was taken out on purpose, resolve this issue; then readmit the machine.',
  ),
  'nic-no-link': warning(
    'A NIC that is in use has no link',
    'Check the cable, the transceiver, and whether the switch port is enabled.',
  ),
  'nic-slow': warning(
    'A NIC runs slower than it did',
    'Check the cable and the transceiver, and that neither end has a fixed speed.',
  ),
  'nic-missing': critical(
    'A NIC that was there is gone',
    'Seat the card again or replace it. If it was taken out on purpose, resolve this issue; then readmit the machine.',
  ),
  'bmc-unreachable': warning(
    'The BMC does not answer',
    "Check the BMC's address, its cable and the management network; a BMC that hangs needs a cold reset.",
  ),
  'bmc-refused': critical(
    'The BMC refuses the credentials that are known',
    'Set the user and password at the BMC to those that were enrolled, then readmit the machine.',
  ),
  'clock-off': warning(
    'The clock is wrong',
    'Set the clock in the firmware setup; one that is wrong again after a day without power needs a new battery.',
  ),
  'cpu-missing': critical(
    'The machine has fewer processors than it had',
    'Look for a failed processor in the event log of the BMC. If it was taken out on purpose, resolve this issue; then readmit the machine.',
  ),
  'memory-missing': critical(
    'The machine has less memory than it had',
    'Look for a failed module in the event log of the BMC. If it was taken out on purpose, resolve this issue; then readmit the machine.',
  ),
  'inventory-drift': warning(
    'The hardware is not what was known',
    'Compare what is listed with what was racked; if the change was meant, resolve this issue: what was seen is what is known from then on.',
  ),
  'unexpected-machine': warning(
    'This machine was not expected here',
    'Compare its serial number with what was ordered for this rack, and enrol it where it belongs.',
  ),
  'wipe-failed': critical(
    'Its disks are not proven erased',
    'What a tenant wrote may still be on them. Readmit the machine to try again; replace a disk that fails twice, and destroy it.',
  ),
  'deploy-failed': critical(
    'A deploy failed, and it was the fault of the machine',
    'Replace what the evidence names, resolve this issue, then readmit the machine.',
  ),
  'boot-order-wrong': warning(
    'The firmware did not boot from the network when told to',
    'Put the network first in the boot order of the firmware setup.',
  ),
  'falls-silent': warning(
    'The machine falls silent while it waits in the ready pool',
    'Read its console and the event log of its BMC for a crash; check its memory, its cooling, and the link to its switch.',
  ),
  'kexec-failing': warning(
    'New systems do not start by kexec on this machine',
    'Nothing for now: its servers start by a reset instead. A firmware update often helps.',
  ),
} as const satisfies Record<string, IssueType>;

export type IssueName = keyof typeof issueTypes;

export interface IssueType {
  readonly severity: Severity;
  /** What is wrong, without the particulars. */
  readonly title: string;
  /** What a person does about it. */
  readonly remedy: string;
}

export interface FoundIssue {
  readonly machineId: string;
  readonly type: IssueName;
  /** The particulars, in a sentence. */
  readonly message: string;
  /** What it was concluded from; survives as JSON. */
  readonly evidence: Readonly<Record<string, unknown>>;
  readonly at: Millis;
}

/**
 * Writes down what is wrong with a machine, once: found again, an open issue of that type is seen at `at`, with the newer
 * message and evidence. A critical one alerts, and sets aside a machine that could be ordered; one that is being worked on is
 * set aside where that work would make it available (`moveMachine`), and a server that runs is left alone.
 */
export async function raiseIssue(tx: Tx, events: EventLog, ids: Ids, found: FoundIssue): Promise<void> {
  const { machineId, type, message, evidence, at } = found;
  const { severity, remedy, title } = issueTypes[type];
  // The machine's row is written first: who makes it available meanwhile waits, and then sees this issue.
  await tx.updateTable('machines').set({ updated_at: at }).where('id', '=', machineId).execute();
  const id = ids.next('iss');
  const seen = { message, evidence: JSON.stringify(evidence), seen_at: at };
  const open = await tx
    .insertInto('machine_issues')
    .values({ id, machine_id: machineId, type, severity, remedy, raised_at: at, ...seen })
    .onConflict((conflict) =>
      conflict.columns(['machine_id', 'type']).where('resolved_at', 'is', null).doUpdateSet(seen),
    )
    .returning('id')
    .executeTakeFirstOrThrow();
  if (open.id !== id) return;
  const data = { machineId, issueId: id, type, severity, message };
  await events.append(tx, 'machine.issue-raised', { key: machineId, actor: 'system', data });
  if (severity !== 'critical') return;
  const alert = { subject: machineId, code: 'machine.unfit', message: `${title}: ${message}` };
  await events.append(tx, 'alert.raised', { key: machineId, actor: 'system', data: alert });
  const { state } = await tx
    .selectFrom('machines')
    .select('state')
    .where('id', '=', machineId)
    .executeTakeFirstOrThrow();
  if (state !== 'available' && state !== 'ready') return;
  await quarantineMachine(tx, events, { machineId, reason: message, actor: 'system', at });
}

export interface ResolvedIssue {
  readonly machineId: string;
  readonly type: IssueName;
  /** What found it gone (`check`, `wipe` …), or the key of the operator who says so. */
  readonly by: string;
  readonly reason?: string;
  /** Of an operator: see `NewEvent`. */
  readonly origin?: string | undefined;
  readonly at: Millis;
}

/** Closes what is not wrong any more. A machine that was set aside stays so: an operator readmits it. False: it was not open. */
export async function resolveIssue(tx: Tx, events: EventLog, resolved: ResolvedIssue): Promise<boolean> {
  const { machineId, type, by, reason, origin, at } = resolved;
  const issue = await tx
    .updateTable('machine_issues')
    .set({ resolved_at: at, resolved_by: by })
    .where('machine_id', '=', machineId)
    .where('type', '=', type)
    .where('resolved_at', 'is', null)
    .returning('id')
    .executeTakeFirst();
  if (issue === undefined) return false;
  const data = { machineId, issueId: issue.id, type, by, ...(reason === undefined ? {} : { reason }) };
  await events.append(tx, 'machine.issue-resolved', { key: machineId, actor: by, origin, data });
  return true;
}

/** What is wrong with a machine now, the worst first, then the oldest. */
export async function openIssues(read: Reader, machineId: string): Promise<MachineIssueRow[]> {
  const issues = await read
    .selectFrom('machine_issues')
    .selectAll()
    .where('machine_id', '=', machineId)
    .where('resolved_at', 'is', null)
    .orderBy('raised_at')
    .orderBy('id')
    .execute();
  return issues.sort((one, other) => weights[other.severity] - weights[one.severity]);
}

/** What was ever wrong with a machine, the newest first. */
export async function issuesOf(read: Reader, machineId: string, limit: number): Promise<MachineIssueRow[]> {
  return read
    .selectFrom('machine_issues')
    .selectAll()
    .where('machine_id', '=', machineId)
    .orderBy('raised_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit)
    .execute();
}

/** The title of an issue, which an older or a newer program may have written. */
export function issueTitle(type: string): string {
  return isIssueName(type) ? issueTypes[type].title : type;
}

export function isIssueName(type: string): type is IssueName {
  return Object.hasOwn(issueTypes, type);
}

const weights: Readonly<Record<Severity, number>> = { info: 0, warning: 1, critical: 2 };

function critical(title: string, remedy: string): IssueType {
  return { severity: 'critical', title, remedy };
}

function warning(title: string, remedy: string): IssueType {
  return { severity: 'warning', title, remedy };
}
