import type { Clock } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';

/** A terminal or a file: `isTTY` tells whether somebody watches. */
export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

/** What commands have to work with. */
export interface CliContext {
  /** What a command answers. */
  readonly stdout: Output;
  /** Progress and errors. */
  readonly stderr: Output;
  readonly environment: NodeJS.ProcessEnv;
  readonly clock: Clock;
  readonly ids: Ids;
  /** Aborts when somebody asks us to stop. */
  readonly signal: AbortSignal;
  /** The settings of a daemon on this host. Errors: `config.invalid`. */
  readonly loadConfig: (file: string) => Promise<{
    readonly state: string;
    readonly store: string;
    readonly masterKey: string;
    readonly images: { readonly directory: string };
  }>;
  /** Runs the appliance with this configuration until `signal` aborts. */
  readonly serve: (configFile: string) => Promise<void>;
}
