/** Stages of an order that are timed where they happen. */
export type TimedStage = 'quota' | 'placement';

/** Who wants to know how long they take. */
export interface StageTimes {
  /** Does the work; tells how long it took when it succeeds. */
  timed<T>(stage: TimedStage, work: () => Promise<T>): Promise<T>;
}

export const untimed: StageTimes = { timed: (_stage, work) => work() };
