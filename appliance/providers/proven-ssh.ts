import { SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import { hasCode } from '../kernel/errors.ts';
import { done, wait } from '../saga/step.ts';
import type { StepContext, StepResult } from '../saga/step.ts';
import type { SshTarget, probeSsh } from './ssh-probe.ts';

export interface SshProof {
  readonly address: string;
  readonly hostKey: string;
  readonly at: Millis;
}

const SSH_POLL = 2 * SECOND;
const SSH_TIMEOUT = 10 * SECOND;

/**
 * SSH answers with the host key that it should have, and would let the tenant in. Tried every two seconds until then;
 * a wrong host key ends it at once. Errors: those of the probe.
 */
export async function proveSsh(
  target: SshTarget,
  { until, probe }: { until: Millis; probe: typeof probeSsh },
  ctx: StepContext<undefined>,
): Promise<StepResult<SshProof>> {
  try {
    await probe(target, SSH_TIMEOUT, ctx.signal);
    return done({ address: target.host, hostKey: target.hostKey, at: ctx.clock.now() });
  } catch (error) {
    const soon = ctx.clock.now() + SSH_POLL;
    const mayCome = hasCode(error, 'ssh.unreachable') || hasCode(error, 'ssh.key-refused');
    if (mayCome && soon < until) return wait(soon);
    throw error;
  }
}
