import { createHash, createHmac } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import type { WipedDisk } from '../../pxe/boot-plan.ts';
import type { EventLog } from '../events/event-log.ts';
import { SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { WipeCertificateRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import type { Booted } from './boot-drive.ts';
import { knownHardware, missingDisks } from './known-hardware.ts';
import type { Verdict } from './verdict.ts';
import { passVerdict } from './verdict.ts';

/** From which the places follow at which wiped disks are read back: nobody without the key of tokens foresees those of a boot. */
export function sampleSeed(tokenKey: KeyObject, sessionId: string): string {
  return createHmac('sha256', tokenKey).update(`wipe ${sessionId}`).digest('hex').slice(0, 32);
}

/**
 * Keeps what the ramdisk says of a disk that it was to wipe; said again in the same boot, the newer word counts. A disk that failed is
 * an issue at once.
 *
 * Errors: `request.invalid` when it claims to have read zeros, and its digest is not that of zeros.
 */
export async function recordWiped(
  tx: Tx,
  deps: { readonly events: EventLog; readonly ids: Ids; readonly tokenKey: KeyObject },
  { machineId, sessionId, disk, at }: { machineId: string; sessionId: string; disk: WipedDisk; at: Millis },
): Promise<void> {
  const { name, bytes, serial, model, method, seconds, samples, sampledBytes, digest, failure } = disk;
  if (failure === undefined) requireZeros(disk);
  const told = {
    ...{ serial, model, bytes, method, samples, digest },
    ...{ started_at: at - seconds * SECOND, ended_at: at, sampled_bytes: sampledBytes },
    ...(failure === undefined
      ? ({ result: 'passed', reason: null } as const)
      : ({ result: 'failed', reason: failure } as const)),
  };
  const seed = sampleSeed(deps.tokenKey, sessionId);
  await tx
    .insertInto('wipe_certificates')
    .values({ id: deps.ids.next('wip'), machine_id: machineId, session_id: sessionId, disk: name, seed, ...told })
    .onConflict((conflict) => conflict.columns(['session_id', 'disk']).doUpdateSet(told))
    .execute();
  if (failure === undefined) return;
  const message = `${name} (serial ${serial || 'unknown'}): ${failure}.`;
  const verdict = { findings: [{ type: 'wipe-failed', message, evidence: { ...disk } }], lookedAt: [] } as const;
  await passVerdict(tx, deps, verdict, { machineId, by: 'wipe', at });
}

/**
 * What a boot that has wiped a machine has proven: every disk that it saw, and which that the inventory has it did not see. Errors:
 * `boot.stage-failed` when it proved nothing, or the contrary.
 */
export async function wipeVerdict(read: Reader, { machineId, sessionId }: Booted): Promise<Verdict> {
  const certificates = await read
    .selectFrom('wipe_certificates')
    .selectAll()
    .where('session_id', '=', sessionId)
    .execute();
  const failed = certificates.find(({ result }) => result === 'failed');
  if (failed !== undefined || certificates.length === 0) {
    const what = failed === undefined ? 'without telling of any disk' : `though ${failed.disk} failed`;
    throw new RackstartError('boot.stage-failed', `Machine ${machineId} ended its wipe ${what}.`);
  }
  const disks = certificates.map(({ disk: name, bytes, serial }) => ({ name, bytes, serial }));
  const missing = missingDisks(await knownHardware(read, machineId), { disks });
  return { findings: missing === undefined ? [] : [missing], lookedAt: ['wipe-failed'] };
}

/** Of a machine, the newest first. */
export function wipesOf(read: Reader, machineId: string, limit: number): Promise<WipeCertificateRow[]> {
  return read
    .selectFrom('wipe_certificates')
    .selectAll()
    .where('machine_id', '=', machineId)
    .orderBy('ended_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit)
    .execute();
}

// More than a ramdisk of ours reads back; hashing it takes a tenth of a second.
const MOST_SAMPLED = 64 * 1024 ** 2;

function requireZeros({ sampledBytes, digest }: WipedDisk): void {
  const complain = (field: string, message: string) => {
    throw new RackstartError('request.invalid', 'The certificate proves nothing.', { fields: [{ field, message }] });
  };
  if (sampledBytes === 0 || sampledBytes > MOST_SAMPLED) complain('/sampled_bytes', `must be 1 to ${MOST_SAMPLED}`);
  const zeros = createHash('sha256').update(Buffer.alloc(sampledBytes)).digest('hex');
  if (digest !== zeros) complain('/digest', 'must be that of as many zeros as were read');
}
