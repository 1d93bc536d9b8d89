import type { PoolMovesReason } from '../../scheduler/pool-moves.ts';
import type { PoolTargetReason } from '../../scheduler/pool-target.ts';
import type { WarmUp } from '../../scheduler/warm-up.ts';

/** Why a pool is to be as large as it is, in a sentence. */
export function targetSentence(reason: PoolTargetReason): string {
  const machines = `${String(reason.machines)} machines`;
  switch (reason.kind) {
    case 'floor':
      return `${machines} are the floor, ${percent(reason.share)} of the capacity.`;
    case 'ceiling':
      return `${machines} are the ceiling, ${percent(reason.share)} of the capacity.`;
    case 'capacity':
      return `${machines} are all there are.`;
    case 'lead-time-demand': {
      const { mean, serviceLevel, interval, method } = reason;
      const expected = `While a machine warms, ${mean.toFixed(1)} orders are expected, ${String(interval.low)} to ${String(interval.high)} in nine of ten cases`;
      return `${expected} (method ${method}): with ${machines}, ${percent(serviceLevel)} of the orders find one ready.`;
    }
  }
}

/** How far ahead the pool looks. */
export function warmUpSentence({ milliseconds, samples, basis }: WarmUp): string {
  const minutes = `A machine is taken to warm in ${(milliseconds / 60_000).toFixed(1)} min`;
  switch (basis) {
    case 'measured':
      return `${minutes}: nine in ten of ${String(samples)} took no longer.`;
    case 'configured':
      return `${minutes}, as configured, or as the slowest took: ${String(samples)} were measured.`;
    case 'least':
      return `${minutes}, the least that is believed: nine in ten of ${String(samples)} took less.`;
    case 'most':
      return `${minutes}, the most that is believed: of ${String(samples)} more than one in ten took longer.`;
  }
}

/** What the pool does about it, or waits for. */
export function movesSentence(reason: PoolMovesReason): string {
  switch (reason.kind) {
    case 'below-target':
      return `${String(reason.missing)} are missing: as many as may are being warmed.`;
    case 'rack-limit':
      return `In rack ${reason.rackId} ${String(reason.waiting)} wait until others of it are up.`;
    case 'none-available':
      return `${String(reason.missing)} are missing, and no machine is free for them.`;
    case 'above-target':
      return `There are ${String(reason.surplus)} too many: those that will not be wanted soon are switched off.`;
    case 'kept':
      return `There are ${String(reason.surplus)} more than needed now: they are kept, for soon or since they are few.`;
  }
}

function percent(share: number): string {
  return `${String(Math.round(share * 1000) / 10)} %`;
}
