/** Runs until told to stop. Constructors assign; `run` works, and once `signal` aborts returns, or rejects with its reason. */
export interface Service {
  readonly name: string;
  run(signal: AbortSignal): Promise<void>;
}
