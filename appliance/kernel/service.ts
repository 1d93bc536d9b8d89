/** Something that runs until told to stop. Constructors assign; `run` works, and returns when `signal` aborts. */
export interface Service {
  readonly name: string;
  run(signal: AbortSignal): Promise<void>;
}
