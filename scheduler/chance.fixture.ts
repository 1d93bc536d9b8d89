/** Numbers in (0, 1) that are the same in every run: the minimal standard generator (Park and Miller 1988; multiplier of 1993). */
export function chanceOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}
