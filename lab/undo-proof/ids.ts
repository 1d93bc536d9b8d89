import type { Dice } from '../fuzz/dice.ts';
import type { Clock } from '../../appliance/kernel/clock.ts';
import type { Ids } from '../../appliance/kernel/ids.ts';

/** Ids that are the same in every run, and sort in the order they were made: a trial is repeated to the letter. */
export function countedIds(clock: Clock, dice: Dice, from = 0): Ids {
  let count = from;
  return {
    next(prefix) {
      count += 1;
      return `${prefix}_${clock.now().toString(32).padStart(10, '0')}${count.toString(32).padStart(16, '0')}`;
    },
    random: (length) => dice.bytes(length),
  };
}
