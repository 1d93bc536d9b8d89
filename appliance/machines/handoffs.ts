import type { EventLog } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import type { BootSessionRow, ModelHandoffRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import type { HardwareKind } from './boot-deadlines.ts';
import { hardwareOf } from './boot-deadlines.ts';
import { raiseIssue } from './machine-issues.ts';

/** How an installed system is started: at once, by kexec out of the ramdisk, or by way of the firmware. */
export type Handoff = ModelHandoffRow['handoff'];

/** After so many kexecs in a row that led nowhere, where the same disk then started by a reset, a model goes by reset. */
const MOST_FAILURES = 2;

/** How machines of this hardware are handed to their new system: by kexec, unless that is known to fail there. */
export async function handoffOf(read: Reader, { model, firmware }: HardwareKind): Promise<Handoff> {
  if (model === null || firmware === null) return 'kexec';
  const known = await read
    .selectFrom('model_handoffs')
    .select('handoff')
    .where('model', '=', model)
    .where('firmware', '=', firmware)
    .executeTakeFirst();
  return known?.handoff ?? 'kexec';
}

export function listHandoffs(read: Reader): Promise<ModelHandoffRow[]> {
  return read.selectFrom('model_handoffs').selectAll().orderBy('model').orderBy('firmware').execute();
}

/** An operator decides for a model, whatever was counted: that begins anew. */
export async function setHandoff(
  tx: Tx,
  events: EventLog,
  { model, firmware, handoff, actor, origin, at }: HandoffChange,
): Promise<void> {
  await tx
    .insertInto('model_handoffs')
    .values({ model, firmware, handoff, failures: 0, successes: 0, since: at, set_by: actor })
    .onConflict((conflict) =>
      conflict.columns(['model', 'firmware']).doUpdateSet({ handoff, failures: 0, since: at, set_by: actor }),
    )
    .execute();
  const data = { model, firmware, handoff };
  await events.append(tx, 'model.handoff-changed', { key: model, actor, origin, data });
}

export interface HandoffChange extends Pick<ModelHandoffRow, 'model' | 'firmware' | 'handoff'> {
  readonly actor: string;
  /** The address that the change was asked from. */
  readonly origin?: string;
  readonly at: Millis;
}

/**
 * The new system has proven itself: what that says of kexec on such hardware is remembered, once for each boot. A kexec counts as
 * failed when the same disk started by a reset after it: where that fails, too, the image or the network may be at fault.
 */
export async function noteProof(
  tx: Tx,
  { events, ids }: { readonly events: EventLog; readonly ids: Ids },
  boot: BootSessionRow,
  at: Millis,
): Promise<void> {
  const { numUpdatedRows } = await tx
    .updateTable('boot_sessions')
    .set({ proof_due: null })
    .where('id', '=', boot.id)
    .where('proof_due', 'is not', null)
    .executeTakeFirst();
  const { model, firmware } = await hardwareOf(tx, boot.machine_id);
  if (numUpdatedRows !== 1n || boot.handoff !== 'kexec' || model === null || firmware === null) return;
  const failed = boot.rescued_at !== null;
  const { failures, handoff } = await tx
    .insertInto('model_handoffs')
    .values({
      ...{ model, firmware, handoff: 'kexec', since: at, set_by: 'saga' },
      ...{ failures: failed ? 1 : 0, successes: failed ? 0 : 1 },
    })
    .onConflict((conflict) =>
      conflict
        .columns(['model', 'firmware'])
        .doUpdateSet((eb) =>
          failed
            ? { failures: eb('model_handoffs.failures', '+', 1) }
            : { failures: 0, successes: eb('model_handoffs.successes', '+', 1) },
        ),
    )
    .returning(['failures', 'handoff'])
    .executeTakeFirstOrThrow();
  if (!failed) return;
  const evidence = { sessionId: boot.id, model, firmware, failuresInARow: failures };
  const message = `A new system did not phone home after its kexec, and did after a reset from the same disk.`;
  await raiseIssue(tx, events, ids, { machineId: boot.machine_id, type: 'kexec-failing', message, evidence, at });
  if (handoff === 'kexec' && failures >= MOST_FAILURES) await goByReset(tx, events, { model, firmware, failures, at });
}

async function goByReset(
  tx: Tx,
  events: EventLog,
  { model, firmware, failures, at }: Pick<ModelHandoffRow, 'model' | 'firmware' | 'failures'> & { at: Millis },
): Promise<void> {
  const handoff = 'reset';
  await tx
    .updateTable('model_handoffs')
    .set({ handoff, since: at, set_by: 'saga' })
    .where('model', '=', model)
    .where('firmware', '=', firmware)
    .execute();
  await events.append(tx, 'model.handoff-changed', { key: model, actor: 'saga', data: { model, firmware, handoff } });
  const message = `${String(failures)} kexecs in a row failed on ${model} (${firmware}): its servers are started by a reset from now on.`;
  const data = { subject: model, code: 'boot.stage-late', message };
  await events.append(tx, 'alert.raised', { key: model, actor: 'saga', data });
}
