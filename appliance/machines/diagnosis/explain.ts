import type { Millis } from '../../kernel/clock.ts';
import type { Reader } from '../../store/store.ts';
import type { Diagnosis } from './diagnose.ts';
import { diagnose } from './diagnose.ts';
import type { Failure } from './evidence.ts';
import { gatherEvidence, lastBoot } from './gather.ts';

/** Whose failure it is: of the last boot of an attempt, or of a machine. */
export type FailureOf = { readonly attemptId: string } | { readonly machineId: string };

/**
 * Why a saga that had a machine boot turned back: the diagnosis of its last boot, what its step met included. Undefined where nothing
 * was booted, or the boot is not what failed. For operators: it names addresses, UUIDs and what a machine printed.
 */
export async function explainFailure(
  read: Reader,
  failure: Failure,
  of: FailureOf,
  at: Millis,
): Promise<Diagnosis | undefined> {
  const sessionId = await lastBoot(read, of);
  if (sessionId === undefined) return undefined;
  const diagnosis = diagnose(await gatherEvidence(read, sessionId, at, failure));
  return diagnosis.verdict === 'found' || diagnosis.verdict === 'unknown' ? diagnosis : undefined;
}
