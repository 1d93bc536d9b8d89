import { Dice } from '../fuzz/dice.ts';
import type { Disturbance, Mishap } from './effects.ts';
import { forGood, passing } from './effects.ts';
import type { Course, Moment, Scenario } from './trial.ts';

/** The columns of the matrix: kinds of faults, as their headings name them. */
export const columns = [
  'undisturbed',
  'fails for good',
  'fails past retries',
  'fails once',
  'done twice',
  'cancelled',
  'killed',
  'killed, cancelled',
  'killed twice',
  'SIGKILL',
  'SIGKILL, cancelled',
  'SIGKILL twice',
  'undo fails, retried',
  'undo fails, skipped',
  'hangs',
  'lies',
] as const;
export type Column = (typeof columns)[number];

/** Those of real processes: each kill costs the start of another. */
export const isBySigkill = (column: Column): boolean => column.startsWith('SIGKILL');

const whens = ['before', 'after'] as const;

/** Every way to disturb a saga, told from how it runs undisturbed and how it runs when its last effect fails for good. */
export function scenariosOf({ course, turned }: Courses, seed: string): Readonly<Record<Column, readonly Scenario[]>> {
  const effects = course.effects.map((effect, index) => ({ ...effect, number: index + 1 }));
  const forward = effects.filter(({ backward }) => !backward);
  const backward = effects.filter((effect) => effect.backward);
  const isFirst = ({ name, number }: { name: string; number: number }) =>
    course.effects.findIndex((effect) => effect.name === name) + 1 === number;
  const fails = (when: 'before' | 'after', error: () => Error): Mishap => ({ kind: 'fails', when, error });
  const one = (number: number, mishap: Mishap, again?: Disturbance['again']): Pick<Scenario, 'disturbances'> => ({
    disturbances: [{ effect: number, mishap, ...(again === undefined ? {} : { again }) }],
  });
  // The state of log and world is another one at each commit and behind each effect; what lies between is the same.
  const points = course.points.map((what, index) => ({ what, at: index + 1, where: `point ${index + 1}, ${what}` }));
  const stops = points.filter(({ what }) => what !== 'write');
  const settled = points.filter(({ what }) => what === 'written' || what.startsWith('after '));
  const isUnrecorded = ({ what, at }: { what: string; at: number }) =>
    what.startsWith('after ') && at <= course.forward;
  const undoFails = (operator: 'retries' | 'skips') =>
    turned.flatMap(({ course: { effects: all }, disturbances, when }) =>
      all.flatMap(({ name, backward: isUndo }, index) =>
        (isUndo ? [forGood, passing] : []).map((error) => ({
          name: `fails ${when} its last effect, and undo at effect ${index + 1}, ${name}: ${error().message}`,
          disturbances: [
            ...disturbances,
            { effect: index + 1, mishap: fails('before', error), again: 'until it is repaired' as const },
          ],
          ...{ operator, end: 'undone' as const, quarantine: true },
        })),
      ),
    );
  return {
    undisturbed: [{ name: 'undisturbed', end: 'completed' }],
    'fails for good': [
      ...forward.flatMap(({ name, number, isSpared }) =>
        whens.map((when) => ({
          name: `fails for good ${when} effect ${number}, ${name}`,
          ...one(number, fails(when, forGood)),
          end: isSpared ? ('completed' as const) : ('undone' as const),
        })),
      ),
      ...backward.flatMap(({ name, number }) =>
        whens.map((when) => ({
          name: `fails for good, once, ${when} effect ${number} on the way back, ${name}`,
          ...one(number, fails(when, forGood)),
          ...{ end: 'completed' as const, quarantine: true },
        })),
      ),
    ],
    'fails past retries': forward.flatMap(({ name, number, isSpared }) =>
      whens.map((when) => ({
        name: `fails until retries are spent ${when} effect ${number}, ${name}`,
        ...one(number, fails(when, passing), 'until the saga turns'),
        // A BMC that went on failing is set aside with its machine.
        quarantine: true,
        // One that has happened is found by the next try.
        ...(when === 'before' &&
          isFirst({ name, number }) && { end: isSpared ? ('completed' as const) : ('undone' as const) }),
      })),
    ),
    'fails once': effects.flatMap(({ name, number }) =>
      whens.map((when) => ({
        name: `fails once ${when} effect ${number}, ${name}`,
        ...one(number, fails(when, passing)),
        end: 'completed' as const,
      })),
    ),
    'done twice': [
      { name: 'every effect twice', twice: 'effects', end: 'completed' },
      { name: 'every step and every undo twice', twice: 'steps', end: 'completed' },
      ...effects.map(({ name, number }) => ({
        name: `effect ${number} twice, ${name}`,
        ...one(number, { kind: 'happens twice' }),
        end: 'completed' as const,
      })),
    ],
    cancelled: settled
      .filter(({ at }) => at <= course.forward)
      .map(({ at, where }) => ({ name: `cancelled at ${where}`, cancelAt: at })),
    killed: stops.map(({ at, where }) => ({ name: `killed at ${where}`, killAt: [at] })),
    'killed, cancelled': settled.map(({ at, where }) => ({
      ...{ name: `killed at ${where}, then cancelled`, killAt: [at], thenCancel: true },
    })),
    'killed twice': settled.flatMap((first) =>
      settled
        .filter(({ at }) => at > first.at)
        .map((second) => ({
          name: `killed at ${first.where}, and at point ${second.at}`,
          killAt: [first.at, second.at],
        })),
    ),
    SIGKILL: stops.map((stop) => ({ name: `SIGKILL at ${stop.where}`, sigkillAt: [momentOf(stop, course)] })),
    // An effect that has happened, and no record of it but the intent.
    'SIGKILL, cancelled': stops.filter(isUnrecorded).map((stop) => ({
      name: `SIGKILL at ${stop.where}, then cancelled`,
      ...{ sigkillAt: [momentOf(stop, course)], thenCancel: true },
    })),
    'SIGKILL twice': sigkilledTwice(course, seed),
    'undo fails, retried': undoFails('retries'),
    'undo fails, skipped': undoFails('skips'),
    hangs: effects.flatMap(({ name, number }) =>
      (['signal', 'nothing'] as const).map((heeds) => ({
        name: `hangs, and heeds ${heeds === 'signal' ? 'its signal' : heeds}, at effect ${number}, ${name}`,
        ...one(number, { kind: 'hangs', heeds }),
        end: 'completed' as const,
      })),
    ),
    lies: effects
      .filter(({ canLie }) => canLie)
      .map(({ name, number }) => ({
        name: `lies at effect ${number}, ${name}`,
        ...one(number, { kind: 'lies' }),
        quarantine: true,
      })),
  };
}

function momentOf({ what, at }: { what: string; at: number }, { points }: Course): Moment {
  return { what, nth: points.slice(0, at).filter((one) => one === what).length };
}

/** Of each row so many: 200 in all, more of them would tell little that the pairs without a process do not. */
const SIGKILLED_TWICE = 25;

/** The second process may have less to do than is left of an undisturbed run: it dies in the first part of that. */
function sigkilledTwice({ points }: Course, seed: string): Scenario[] {
  const dice = new Dice('SIGKILL twice', seed);
  return Array.from({ length: SIGKILLED_TWICE }, () => {
    const first = 1 + dice.below(points.length - 1);
    const second = 1 + dice.below(Math.ceil((points.length - first) / 2));
    const name = `SIGKILL at point ${first}, ${points[first - 1]}, and at point ${second} of the next process`;
    return { name, sigkillAt: [{ nth: first }, { nth: second }] };
  });
}

export interface Courses {
  readonly course: Course;
  /** How it runs when its last effect forward fails for good: before it happened, when all else is still open, and after. */
  readonly turned: readonly Turned[];
}

export interface Turned {
  readonly when: 'before' | 'after';
  readonly course: Course;
  readonly disturbances: readonly Disturbance[];
}

/** At most so many, the same for the same seed, from the whole breadth of them. */
export function some<T>(all: readonly T[], most: number, seed: string): readonly T[] {
  if (all.length <= most) return all;
  const dice = new Dice(seed, all.length);
  const from = (index: number) => Math.floor((index * all.length) / most);
  return Array.from({ length: most }, (_, index) => all[from(index) + dice.below(from(index + 1) - from(index))]!);
}
