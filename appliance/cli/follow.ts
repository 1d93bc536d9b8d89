import { Doorbell } from '../events/doorbell.ts';
import { SECOND } from '../kernel/clock.ts';
import type { ApiClient } from './client.ts';
import type { CliContext } from './context.ts';

/** How often to look where no event tells: what a machine reports of its boot is told to operators alone. */
const LOOK_EVERY = SECOND;

/** Looks again whenever something has happened, until `look` gives a result. Errors: AbortError when we are asked to stop. */
export async function follow<Result>(
  { clock, signal }: Pick<CliContext, 'clock' | 'signal'>,
  api: ApiClient,
  look: () => Promise<Result | undefined>,
): Promise<Result> {
  const bell = new Doorbell();
  const live = api.live(() => bell.ring());
  try {
    for (;;) {
      const result = await look();
      if (result !== undefined) return result;
      await bell.wait(clock, clock.now() + LOOK_EVERY, signal);
    }
  } finally {
    live.close();
  }
}
