import type { Millis } from '../kernel/clock.ts';
import type { ApiClient } from './client.ts';
import type { CliContext } from './context.ts';
import { NoAnswer, UsageError } from './failure.ts';
import { follow } from './follow.ts';
import type { Image } from './image.ts';
import type { Progress } from './progress.ts';
import { duration, megabytes } from './text.ts';

/** The long work of making an image, as the API tells it. */
export interface ImageImport {
  readonly id: string;
  readonly name: string;
  readonly version: string;
  readonly state: 'running' | 'done' | 'failed';
  /** Where it is, or failed. */
  readonly stage: string | null;
  /** Bytes of that stage; the total is null where nobody knows. */
  readonly done: number;
  readonly total: number | null;
  readonly startedAt: string;
  readonly image: string | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

/**
 * Shows an import, stage by stage, until the image is there; it goes on without us, so that a daemon which is started anew is
 * waited for. Errors: `UsageError` with the reason when it failed.
 */
export async function followImport(
  context: CliContext,
  api: ApiClient,
  progress: Progress,
  id: string,
): Promise<Image> {
  let stage: Stage | undefined;
  let silences = 0;
  const told = async () => {
    try {
      const answer = (await api.get(`/images/imports/${id}`)) as ImageImport;
      silences = 0;
      return answer;
    } catch (error) {
      if (!(error instanceof NoAnswer) || silences === MOST_SILENCES) throw error;
      silences += 1;
      progress.live(`${error.message} Asking again ...`);
      return undefined;
    }
  };
  const ended = await follow(context, api, async () => {
    const now = await told();
    if (now === undefined) return undefined;
    if (now.stage !== stage?.name) {
      stage?.end();
      stage = now.stage === null ? undefined : new Stage(context, progress, now.stage);
    }
    if (now.state !== 'running') return now;
    stage?.show(now.done, now.total);
    return undefined;
  });
  if (ended.image === null) throw failed(ended);
  return (await api.get(`/images/${ended.image}`)) as Image;
}

/** It is asked every second. */
const MOST_SILENCES = 120;

class Stage {
  readonly name: string;
  readonly #clock: CliContext['clock'];
  readonly #progress: Progress;
  readonly #began: Millis;
  readonly #meter: (done: number, total: number | null) => void;
  #done = 0;

  constructor({ clock }: CliContext, progress: Progress, name: string) {
    this.name = name;
    this.#clock = clock;
    this.#progress = progress;
    this.#began = clock.now();
    this.#meter = progress.meter(name);
  }

  show(done: number, total: number | null): void {
    this.#done = total ?? done;
    if (this.name === 'waiting') this.#progress.live('waiting for its turn ...');
    else this.#meter(done, total);
  }

  end(): void {
    if (this.name === 'waiting') return;
    const bytes = this.#done > 0 ? `, ${megabytes(this.#done)}` : '';
    this.#progress.line(`${this.name}: ${duration(this.#clock.now() - this.#began)}${bytes}`);
  }
}

function failed({ name, version, stage, error }: ImageImport): UsageError {
  const where = stage === null ? '' : `, ${stage}`;
  return new UsageError(
    `${name}:${version} was not made${where}: ${error?.message ?? 'it was cancelled'} (${error?.code ?? 'cancelled'})`,
    'Nothing stays of it. Put right what is wrong with the file, or what was said of it, and send it again.',
  );
}
