import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { EventLog } from '../appliance/events/event-log.ts';
import type { Clock } from '../appliance/kernel/clock.ts';
import { HOUR, MINUTE } from '../appliance/kernel/clock.ts';
import { RackstartError } from '../appliance/kernel/errors.ts';
import type { Ids } from '../appliance/kernel/ids.ts';
import type { Log } from '../appliance/kernel/log.ts';
import type { Service } from '../appliance/kernel/service.ts';
import type { Store } from '../appliance/store/store.ts';
import { ChunkDirectory } from './chunk-directory.ts';
import { ImageCollection } from './image-collection.ts';
import { ImageImports } from './image-imports.ts';
import { ImageStore } from './image-store.ts';
import type { ImageSettings } from './images-config.ts';
import { resolveBySystem } from './ingest/source-url.ts';
import { UploadStore } from './ingest/upload.ts';

export interface ImagesDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
}

export interface Images {
  readonly directory: string;
  readonly images: ImageStore;
  readonly uploads: UploadStore;
  readonly imports: ImageImports;
  readonly services: readonly Service[];
}

/**
 * Everything of images, in one directory: `maps`, `chunks` and `freezing` (`ChunkDirectory`), `uploads` and `imports`; all on one
 * file system, since what came is moved and linked from one to the next. Errors: `config.invalid` for a CA that can't be read.
 */
export async function openImages(settings: ImageSettings, deps: ImagesDeps): Promise<Images> {
  const { directory, mostBytes, tenantBytes, residentBytes, atOnce } = settings;
  const { store, clock, ids, log } = deps;
  const images = new ImageStore({ directory, mostBytes, residentBytes, store, clock, ids });
  const uploads = new UploadStore({
    directory: join(directory, 'uploads'),
    clock,
    ids,
    limits: { ...settings.uploads, tenantBytes, atOnce: UPLOADS_AT_ONCE },
  });
  const imports = new ImageImports({
    ...{ ...deps, images, uploads, mostBytes, tenantBytes, atOnce },
    directory: join(directory, 'imports'),
    fetching: await fetching(settings.imports),
  });
  const collection = new ImageCollection({ store, directory: new ChunkDirectory(directory), clock, log });
  return { directory, images, uploads, imports, services: [imports, collection] };
}

/** Of one tenant, or of operators. */
const UPLOADS_AT_ONCE = 16;

async function fetching({ hosts, allowed, ca, mostBytes }: ImageSettings['imports']) {
  return {
    rules: { hosts, allowed, resolve: resolveBySystem },
    // A server that pauses for a minute has gone; half a day is 64 GiB at 12 Mbit/s.
    limits: { mostBytes, silence: MINUTE, inAll: 12 * HOUR, tries: 5 },
    ...(ca !== undefined && { ca: await readCa(ca) }),
  };
}

async function readCa(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new RackstartError('config.invalid', `The authorities in ${file} can't be read.`, { cause });
  }
}
