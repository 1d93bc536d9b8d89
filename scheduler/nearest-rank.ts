/** The least of the sorted values that at least the share `p` of them do not exceed: always one that was measured. */
export function nearestRank(sorted: readonly number[], p: number): number {
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)] ?? NaN;
}
