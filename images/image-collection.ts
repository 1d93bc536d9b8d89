import { HOUR } from '../appliance/kernel/clock.ts';
import type { Clock } from '../appliance/kernel/clock.ts';
import type { Log } from '../appliance/kernel/log.ts';
import { periodically } from '../appliance/kernel/periodically.ts';
import type { Service } from '../appliance/kernel/service.ts';
import type { Store } from '../appliance/store/store.ts';
import type { ChunkDirectory } from './chunk-directory.ts';
import { collect } from './collect.ts';

export interface ImageCollectionOptions {
  readonly store: Store;
  readonly directory: ChunkDirectory;
  readonly clock: Clock;
  readonly log: Log;
}

/** Removes what no image needs any more, every hour. */
export class ImageCollection implements Service {
  readonly name = 'image-collection';
  readonly #options: ImageCollectionOptions;

  constructor(options: ImageCollectionOptions) {
    this.#options = options;
  }

  run(signal: AbortSignal): Promise<void> {
    const failure = 'images could not be collected';
    return periodically(() => this.#collect(), { ...this.#options, every: HOUR, failure }, signal);
  }

  async #collect(): Promise<void> {
    const { store, directory, clock, log } = this.#options;
    const images = await store.read.selectFrom('images').select('sha256').where('deleted_at', 'is', null).execute();
    const collected = await collect(directory, new Set(images.map(({ sha256 }) => sha256)), clock);
    if (collected.maps + collected.chunks > 0) log.info({ ...collected }, 'images collected');
  }
}
