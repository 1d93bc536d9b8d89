import { createHash } from 'node:crypto';

import type { DiskLayout, DiskRule } from '../../scheduler/disk-plan.ts';
import type { SystemFile } from '../../pxe/boot-plan.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { ImageRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';

/** Everything an install does to a machine, but for the one secret that its claim buys. */
export interface InstallPlan {
  readonly image: {
    readonly sha256: string;
    /** Of the chunk map that `sha256` names. */
    readonly mapBytes: number;
    readonly rawBytes: number;
    readonly rootPartition: number;
    readonly rootFs: ImageRow['root_fs'];
    readonly kernelArgs: string;
  };
  /** The machine's own rule of its root. */
  readonly disk: DiskRule;
  /** None: one disk, and nothing else. */
  readonly layout?: DiskLayout;
  /** Unpacked at the root of the new system, in this order. */
  readonly files: readonly SystemFile[];
}

/** Freezes a plan under the digest of its own text: what was shown, ordered and installed is the same. */
export async function freezePlan(tx: Tx, plan: InstallPlan, tenantId: string, at: Millis): Promise<string> {
  const body = JSON.stringify(plan);
  const digest = createHash('sha256').update(body).digest('hex');
  await tx
    .insertInto('install_plans')
    .values({ digest, tenant_id: tenantId, body, created_at: at })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  return digest;
}

/** Errors: `not-found`; `internal` when the text is not what its digest says. */
export async function readPlan(read: Reader, digest: string): Promise<InstallPlan> {
  const row = await read.selectFrom('install_plans').select('body').where('digest', '=', digest).executeTakeFirst();
  if (row === undefined) throw new RackstartError('not-found', `There is no install plan ${digest}.`);
  if (createHash('sha256').update(row.body).digest('hex') !== digest) {
    throw new RackstartError('internal', `Install plan ${digest} was changed after it was frozen.`);
  }
  return JSON.parse(row.body) as InstallPlan;
}
