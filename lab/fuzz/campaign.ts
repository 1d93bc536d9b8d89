import { isDeepStrictEqual, inspect } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { Dice } from './dice.ts';

/** Straight into the code under test, or through a real socket. */
export type Way = 'direct' | 'socket';

/** One input: everything about it follows from the campaign's seed and its index. */
export interface Input {
  readonly index: number;
  readonly way: Way;
  /** This input's own. */
  readonly dice: Dice;
  /** The same for the inputs of one sequence, which are fed one after another: who speaks, and what about. */
  readonly story: Dice;
  /** Counts from 0 within the sequence. */
  readonly chapter: number;
}

/** A protocol, ready to be fed. Everything that is wrong goes to `find`. */
export interface Target {
  /** Feeds one input; what it leads to may come later. */
  feed(input: Input): void | Promise<void>;
  /** Resolves when all that was fed has been dealt with. */
  settle(): Promise<void>;
  /** One good exchange each way; throws unless each answer is what it was the first time. */
  exchange(): Promise<void>;
  /** Lets everything that waits for time run out. Asked before `state`. */
  rest(): Promise<void>;
  /** All that must be the same before and after, in words that `inspect` can show. */
  state(): Promise<unknown>;
  /** What the inputs led to, by its name: shows that they got past the door. */
  readonly reached: Readonly<Record<string, number>>;
  close(): Promise<void>;
}

export type OpenTarget = (find: Find, seed: number) => Promise<Target>;
/** Tells of something wrong, with the input that did it where that is known. */
export type Find = (what: string, input?: Input) => void;

export interface Campaign {
  readonly seed: number;
  readonly inputs: number;
  /** These alone, first and last index; for a second look at a finding. */
  readonly only?: { readonly first: number; readonly last: number };
}

export interface Verdict {
  readonly inputs: number;
  readonly throughSocket: number;
  readonly exchanges: number;
  /** Such as `12345: a reply to nobody`; the number is for `--only`. */
  readonly findings: readonly string[];
  /** What the inputs led to, and how often. */
  readonly reached: Readonly<Record<string, number>>;
  readonly seconds: number;
  /** In MiB, after a collection: once warm, and at the end. */
  readonly heap: { readonly before: number; readonly after: number };
}

/**
 * Feeds all inputs, with a good exchange before them, after every 1,000, and behind them; then everything must be as it was.
 * An error that nobody caught is a finding like others: the campaign goes on. After 20 findings it has seen enough.
 */
export async function run(name: string, open: OpenTarget, { seed, inputs, only }: Campaign): Promise<Verdict> {
  const started = performance.now();
  const findings: string[] = [];
  let [first, last] = [0, 0];
  const find: Find = (what, input) => {
    if (findings.length < MOST_FINDINGS) findings.push(`${input?.index ?? `${first}-${last}`}: ${what}`);
  };
  const uncaught = (error: unknown) => find(`nobody caught ${inspect(error)}`);
  process.on('uncaughtException', uncaught).on('unhandledRejection', uncaught);
  try {
    const resources = openResources();
    const target = await open(find, seed);
    const heap = { before: 0, after: 0 };
    let [fed, throughSocket, exchanges] = [0, 0, 0];
    const exchange = async () => {
      await target.exchange();
      exchanges++;
    };
    try {
      await exchange();
      await target.rest();
      const before = await target.state();
      const [from, to] = only === undefined ? [0, inputs - 1] : [only.first, only.last];
      for (first = from; first <= to && findings.length < MOST_FINDINGS; first = last + 1) {
        last = Math.min(to, first + ROUND - (first % ROUND) - 1);
        for (let index = first; index <= last; index++) {
          const input = inputAt(name, seed, index);
          await target.feed(input);
          if (input.way === 'socket') throughSocket++;
          fed++;
        }
        await target.settle();
        await turns(1); // what nobody caught is told here
        await exchange();
        if (heap.before === 0 && fed >= Math.min(inputs / 5, WARM)) heap.before = usedHeap();
      }
      await target.rest();
      const after = await target.state();
      if (!isDeepStrictEqual(before, after)) find(`not as before:\n${difference(before, after)}`);
      heap.after = usedHeap();
      if (heap.before > 0 && heap.after > heap.before + HEAP_GROWTH)
        find(`the heap grew from ${heap.before} to ${heap.after} MiB`);
    } catch (error) {
      // A good exchange that fails, or something that never ends: what comes after would prove nothing.
      find(inspect(error));
    } finally {
      await target.close();
    }
    await turns();
    for (const [kind, count] of openResources()) {
      const had = resources.get(kind) ?? 0;
      if (count > had) find(`left open: ${count - had} ${kind}`);
    }
    const seconds = Math.round((performance.now() - started) / 100) / 10;
    return { inputs: fed, throughSocket, exchanges, findings, reached: target.reached, seconds, heap };
  } finally {
    process.off('uncaughtException', uncaught).off('unhandledRejection', uncaught);
  }
}

export function inputAt(name: string, seed: number, index: number): Input {
  const sequence = Math.floor(index / SEQUENCE);
  return {
    index,
    way: sequence % 2 === 0 ? 'direct' : 'socket',
    dice: new Dice(name, seed, 'input', index),
    story: new Dice(name, seed, 'story', sequence),
    chapter: index % SEQUENCE,
  };
}

/** A few turns of the event loop: what is on its way over loopback has arrived. */
export async function turns(count = 4): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Waits, turn by turn, until `done`; rejects when that was in vain, after ten seconds unless told. */
export async function turnsUntil(what: string, done: () => boolean, withinMs = 10_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!done()) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await turns(1);
  }
}

const ROUND = 1_000;
const SEQUENCE = 8;
const WARM = 40_000;
const MOST_FINDINGS = 20;
// In MiB. A leak of 100 bytes an input is 16 MiB over the 160,000 inputs between the two readings.
const HEAP_GROWTH = 12;

function usedHeap(): number {
  collectGarbage();
  return Math.round((process.memoryUsage().heapUsed + process.memoryUsage().external) / 2 ** 20);
}

// Without a flag on the command line, so that a test file can be run by its name alone.
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  collect();
}

function openResources(): Map<string, number> {
  const counts = new Map<string, number>();
  for (const kind of process.getActiveResourcesInfo()) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return counts;
}

/** The lines in which two values differ. */
function difference(before: unknown, after: unknown): string {
  const lines = (value: unknown) => inspect(value, { depth: 8, breakLength: 200, maxArrayLength: 1_000 }).split('\n');
  const [old, now] = [lines(before), lines(after)];
  const gone = old.filter((line) => !now.includes(line)).map((line) => `- ${line}`);
  const come = now.filter((line) => !old.includes(line)).map((line) => `+ ${line}`);
  return [...gone.slice(0, 20), ...come.slice(0, 20)].join('\n');
}
