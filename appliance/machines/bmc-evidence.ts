import { SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { StepContext } from '../saga/step.ts';
import type { Tx } from '../store/store.ts';

/**
 * What a BMC says of a boot that failed is evidence beside others: one that has none, is slow or talks nonsense gives none, and holds
 * nothing up for longer than this at each question.
 */
const PATIENCE: Millis = 3 * SECOND;

type Ctx = StepContext<unknown>;

/** What the BMC answers; undefined where it does not, or where `ask` fails with what does not matter. */
export async function ifTold<T>(
  { clock, signal, log }: Ctx,
  ask: (signal: AbortSignal) => Promise<T>,
  matters: (error: unknown) => boolean = () => false,
): Promise<T | undefined> {
  const over = new AbortController();
  const late = clock.sleepUntil(clock.now() + PATIENCE, over.signal).then(
    () => undefined,
    () => undefined,
  );
  try {
    return await Promise.race([ask(AbortSignal.any([signal, over.signal])), late]);
  } catch (error) {
    signal.throwIfAborted();
    if (matters(error)) throw error;
    log.debug({ error }, 'what a BMC knows of a boot was not to be had');
    return undefined;
  } finally {
    over.abort(GIVEN_UP);
  }
}

// On the timeline it is the outcome of the command that was under way.
const GIVEN_UP = new RackstartError('cancelled', 'The BMC was given time enough to tell of a boot.');

export interface Entry {
  readonly id: string;
  readonly name: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** Puts it on the timeline of a boot, once. */
export async function insertEntries(
  tx: Tx,
  of: { readonly machine_id: string; readonly session_id: string; readonly at: Millis },
  entries: readonly Entry[],
): Promise<void> {
  await tx
    .insertInto('timeline')
    .values(entries.map(({ id, name, detail }) => ({ ...of, id, name, source: 'bmc', detail: JSON.stringify(detail) })))
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}
