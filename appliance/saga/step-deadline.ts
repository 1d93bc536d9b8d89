import { MINUTE, SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { StepContext } from './step.ts';

/** How long one run of a step, or of its undo, may take: whoever has longer to wait says so, and is run again. */
export const STEP_DEADLINE: Millis = 10 * MINUTE;

/** How long a run that was told to stop is still waited for. */
export const STEP_GRACE: Millis = 30 * SECOND;

type Ctx = StepContext<unknown>;

/**
 * Runs a step that may never come to an end: at its deadline it is told to stop, and soon after it was told so, by us or by
 * others, it is waited for no longer. From then on it writes nothing; whatever it still does outside is done under the same
 * key as by the run after it.
 *
 * Errors: those of the step, the reason of the signal it was given, and `saga.step-late`.
 */
export async function withinDeadline<T>(ctx: Ctx, run: (ctx: Ctx) => Promise<T>): Promise<T> {
  const late = new AbortController();
  const over = new AbortController();
  const told = AbortSignal.any([ctx.signal, late.signal]);
  let forsaken = false;

  const watch = async (): Promise<never> => {
    const { clock, signal, step } = ctx;
    const waked = await slept(clock.sleepUntil(clock.now() + STEP_DEADLINE, AbortSignal.any([signal, over.signal])));
    if (waked) {
      const message = `${step} came to no end in ${String(STEP_DEADLINE / MINUTE)} min.`;
      late.abort(new RackstartError('saga.step-late', message));
    }
    await clock.sleepUntil(clock.now() + STEP_GRACE, over.signal);
    forsaken = true;
    throw told.reason;
  };
  const watching = watch();
  watching.catch(() => undefined);

  const transaction: Ctx['transaction'] = (work) => {
    if (!forsaken) return ctx.transaction(work);
    return Promise.reject(new RackstartError('saga.fenced', `${ctx.step} is waited for no longer.`));
  };
  try {
    return await Promise.race([run({ ...ctx, signal: told, transaction }), watching]);
  } finally {
    over.abort(OVER);
  }
}

/** Whether a sleep lasted to its end. */
function slept(sleep: Promise<void>): Promise<boolean> {
  return sleep.then(
    () => true,
    () => false,
  );
}

// Made once: an abort without a reason makes a DOMException with its stack, 45 µs each.
const OVER = new Error('the run is over');
