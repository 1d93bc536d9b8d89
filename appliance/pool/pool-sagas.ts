import type { Booted } from '../machines/boot-drive.ts';
import { driveBoot, stopMachine } from '../machines/boot-drive.ts';
import type { BootDriveDeps } from '../machines/boot-drive.ts';
import type { SetAsideDeps } from '../machines/set-aside.ts';
import { stopOrSetAside } from '../machines/set-aside.ts';
import { saga } from '../saga/saga.ts';
import type { SagaDefinition } from '../saga/saga.ts';
import type { Step } from '../saga/step.ts';
import { done } from '../saga/step.ts';
import { likelyImage } from './likely-image.ts';

export interface PoolParams {
  readonly machineId: string;
  /** Of a drain: the machine is warmed again behind it. */
  readonly again?: true;
}

export type PoolSaga = SagaDefinition<PoolParams, undefined>;
export type PoolDriveDeps = BootDriveDeps &
  SetAsideDeps & {
    /** Whether a machine that waits has the image that it will likely be ordered with written to its disk. */
    readonly imageAhead: boolean;
  };

type PoolStep<Out> = Step<{ params: PoolParams }, Out, undefined>;

/** From off to parked in the ramdisk; turned back, the machine is off again. */
export function warmSaga(deps: PoolDriveDeps): PoolSaga {
  const park: PoolStep<Booted> = {
    async run({ params: { machineId } }, ctx) {
      const imageId = deps.imageAhead ? await likelyImage(ctx.read, machineId, ctx.clock.now()) : undefined;
      return driveBoot({ machineId, verb: 'wait', imageId }, deps, ctx);
    },
    async undo({ params: { machineId } }, _booted, ctx) {
      await stopOrSetAside(machineId, deps, ctx);
      return done();
    },
  };
  return saga<PoolParams, undefined>('warm', 1).step('park', park).build();
}

/** Whatever a machine waits for, it is off afterwards. */
export function drainSaga(deps: PoolDriveDeps): PoolSaga {
  const powerOff: PoolStep<void> = {
    async run({ params: { machineId } }, ctx) {
      await stopMachine(machineId, deps, ctx);
      return done();
    },
    undo: { noUndo: 'a machine that is to leave the pool does not come back by itself' },
  };
  return saga<PoolParams, undefined>('drain', 1).step('power-off', powerOff).build();
}
