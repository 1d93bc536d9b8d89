import { EventEmitter, once } from 'node:events';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import type { EventLog } from '../appliance/events/event-log.ts';
import { HOUR, MINUTE } from '../appliance/kernel/clock.ts';
import { RackstartError, asRackstartError, hasCode } from '../appliance/kernel/errors.ts';
import type { Ids } from '../appliance/kernel/ids.ts';
import type { Log } from '../appliance/kernel/log.ts';
import { periodically } from '../appliance/kernel/periodically.ts';
import type { Service } from '../appliance/kernel/service.ts';
import type { ImageImportRow, ImageRow } from '../appliance/store/schema.ts';
import type { Store, Tx } from '../appliance/store/store.ts';
import { absent } from './chunk-directory.ts';
import * as records from './image-import-records.ts';
import type { Declaration } from './ingest/declaration.ts';
import { checkedUrl } from './ingest/source-url.ts';
import type { UploadStore } from './ingest/upload.ts';
import { overQuota } from './ingest/upload.ts';
import type { ImportProgress, MakeImageDeps } from './make-image.ts';
import { declarationOf, makeImage } from './make-image.ts';

export interface ImageImportsDeps extends MakeImageDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly ids: Ids;
  readonly log: Log;
  readonly uploads: UploadStore;
  /** A directory for each that runs; on the file system of the uploads. */
  readonly directory: string;
  /** So many are worked on; the others wait. */
  readonly atOnce: number;
  /** Of all images of one tenant, and those under way. */
  readonly tenantBytes: number;
}

/** Who asks, and the store that is told with what they ask for. */
export interface Asker {
  readonly store: Store;
  readonly actor: string;
  readonly origin: string;
}

export type ImageImport = ImageImportRow & { readonly progress: ImportProgress };

/**
 * Makes images of what was uploaded, or of what is fetched: a few at a time, in the order in which they were asked for. What was
 * asked for is a row, and what came of it lies in a directory of its own: after a kill it goes on where there is such a
 * directory. Which daemon of several works on one follows from that, too.
 */
export class ImageImports implements Service {
  readonly name = 'image-imports';
  readonly #deps: ImageImportsDeps;
  readonly #works = new Map<string, Work>();
  readonly #queue: Work[] = [];
  readonly #bell = new EventEmitter();

  constructor(deps: ImageImportsDeps) {
    this.#deps = deps;
    this.#bell.setMaxListeners(0);
  }

  /**
   * Makes an image of a whole upload; the same upload again is the same import. Gives its id. Errors: those of
   * `UploadStore.take`; `state.conflict` when name and version are taken.
   */
  async complete(tenantId: string | undefined, uploadId: string, asker: Asker): Promise<string> {
    const known = await records.importOfUpload(this.#deps.store.read, tenantId, uploadId);
    if (known !== undefined) return known.id;
    return this.#begin(async (work) => {
      await this.#deps.uploads.take(tenantId, uploadId, async (upload) => {
        // As an upload it was within the quota.
        const from = { upload_id: uploadId, url: null, reserved_bytes: upload.bytes };
        work.row = await asker.store.transaction((tx) => this.#write(tx, rowOf(work.id, upload, from), asker));
        return this.#file(work.id);
      });
    });
  }

  /** Fetches one. Gives the import's id. Errors: `image.source-refused`, `quota.exceeded`, `state.conflict`. */
  async fetch(declared: Declaration, url: string, asker: Asker): Promise<string> {
    const { fetching, uploads } = this.#deps;
    checkedUrl(url, fetching.rules);
    const uploading = declared.tenantId === null ? 0 : await uploads.reserved(declared.tenantId);
    return this.#begin(async (work) => {
      work.row = await asker.store.transaction(async (tx) => {
        const reserved_bytes = Math.min(fetching.limits.mostBytes, await this.#left(tx, declared.tenantId, uploading));
        return this.#write(tx, rowOf(work.id, declared, { upload_id: null, url, reserved_bytes }), asker);
      });
    });
  }

  /** The newest first. */
  async list(tenantId: string | undefined, limit: number): Promise<readonly ImageImport[]> {
    const rows = await records.listImports(this.#deps.store.read, tenantId, limit);
    return rows.map((row) => this.#present(row));
  }

  /** Errors: `not-found`. */
  async find(tenantId: string | undefined, id: string): Promise<ImageImport> {
    return this.#present(await records.findImport(this.#deps.store.read, tenantId, id));
  }

  /** Ends it as failed, with nothing left of it. Errors: `not-found`; `state.conflict` when it has ended already. */
  async stop(tenantId: string | undefined, id: string, asker: Asker): Promise<void> {
    const row = await records.findImport(this.#deps.store.read, tenantId, id);
    const work = this.#works.get(id);
    work?.stop.abort(stopped());
    if (work !== undefined && this.#queue.includes(work)) this.#queue.splice(this.#queue.indexOf(work), 1);
    else await work?.ended.promise;
    try {
      const isMine = await this.#fail(row, work?.progress, stopped(), asker);
      if (!isMine) throw new RackstartError('state.conflict', `Image import ${id} has ended already.`);
      await this.#clear(id);
    } finally {
      this.#works.delete(id);
    }
  }

  /** By the images of a tenant and its imports that run, in bytes. */
  used(tenantId: string): Promise<number> {
    return records.imageBytesOf(this.#deps.store.read, tenantId);
  }

  async run(signal: AbortSignal): Promise<void> {
    const lanes = Array.from({ length: this.#deps.atOnce }, () => this.#lane(signal));
    const failure = 'image imports are looked after again later';
    const care = periodically(() => this.#lookAfter(), { ...this.#deps, every: PERIOD, failure }, signal);
    await Promise.allSettled([care, ...lanes]);
    throw signal.reason;
  }

  /** What a kill or an outage left goes on, or is cleared away; so are uploads that nobody completes. */
  async #lookAfter(): Promise<void> {
    const { clock, log, store, uploads } = this.#deps;
    await this.#takeUp();
    const expired = await uploads.collect();
    if (expired.length > 0) log.info({ uploads: expired }, 'uploads that were not completed are removed');
    await store.transaction((tx) => records.forgetImports(tx, clock.now() - KEPT));
  }

  async #takeUp(): Promise<void> {
    const { directory, store, uploads } = this.#deps;
    const here = (await readdir(directory).catch(absent)) ?? [];
    const rows = await records.runningImports(store.read);
    for (const row of rows) {
      const { id, upload_id } = row;
      if (this.#works.has(id)) continue;
      if (here.includes(id)) {
        if (upload_id !== null) await uploads.handOver(upload_id, this.#file(id));
        this.#enqueue({ ...newWork(id), row });
      } else if (store.dialect === 'sqlite') {
        // With PostgreSQL it may be another daemon's.
        await this.#fail(row, undefined, new RackstartError('image.interrupted', 'Nothing of it is here any more.'));
      }
    }
    const running = new Set(rows.map(({ id }) => id));
    for (const id of here) if (!running.has(id) && !this.#works.has(id)) await this.#clear(id);
  }

  /** First it has a directory, then `write` writes it down: from then on it goes on whatever happens. */
  async #begin(write: (work: Work) => Promise<void>): Promise<string> {
    const { directory, ids } = this.#deps;
    const work = newWork(ids.next('imp'));
    const { id } = work;
    this.#works.set(id, work);
    try {
      await mkdir(join(directory, id), { recursive: true, mode: 0o700 });
      await write(work);
      this.#enqueue(work);
      return id;
    } catch (error) {
      this.#works.delete(id);
      // Nobody knows whether it was committed: then it is looked after later.
      if (work.row === undefined && !hasCode(error, 'store.unavailable')) await this.#clear(id);
      throw error;
    }
  }

  async #write(tx: Tx, row: ImageImportRow, { actor, origin }: Asker): Promise<ImageImportRow> {
    const { events, clock, images } = this.#deps;
    const { id, tenant_id, name, version, format, sha256, url } = row;
    const running = await records.runningImports(tx);
    if (running.filter((each) => each.tenant_id === tenant_id).length >= MOST_OF_ONE) {
      throw new RackstartError('quota.exceeded', `${String(MOST_OF_ONE)} image imports are under way already.`);
    }
    await images.requireFree(declarationOf(row), tx);
    const written = { ...row, created_by: actor, created_at: clock.now() };
    await tx.insertInto('image_imports').values(written).execute();
    const data = { importId: id, name, version, format, sha256, from: url === null ? 'upload' : 'url' } as const;
    await events.append(tx, 'image.import-begun', { key: id, ...ofTenant(tenant_id), actor, origin, data });
    return written;
  }

  /** Of a tenant's quota, in bytes; `uploading` is what its uploads take of it. Errors: `quota.exceeded`. */
  async #left(tx: Tx, tenantId: string | null, uploading: number): Promise<number> {
    if (tenantId === null) return Infinity;
    await records.lockTenant(tx, this.#deps.store.dialect, tenantId);
    const used = uploading + (await records.imageBytesOf(tx, tenantId));
    if (used < this.#deps.tenantBytes) return this.#deps.tenantBytes - used;
    throw overQuota(used, this.#deps.tenantBytes);
  }

  #enqueue(work: Work): void {
    this.#works.set(work.id, work);
    this.#queue.push(work);
    this.#bell.emit('rung');
  }

  async #lane(signal: AbortSignal): Promise<never> {
    for (;;) {
      const work = this.#queue.shift();
      if (work === undefined) await once(this.#bell, 'rung', { signal });
      else await this.#work(work, signal);
    }
  }

  async #work(work: Work, signal: AbortSignal): Promise<void> {
    const { id, row, stop } = work;
    const { log } = this.#deps;
    if (row === undefined) return;
    try {
      await makeImage(row, this.#deps, {
        directory: join(this.#deps.directory, id),
        signal: AbortSignal.any([signal, stop.signal]),
        progress: (progress) => (work.progress = progress),
        also: (tx, image, isNew) => this.#done(tx, row, image, isNew),
      });
      log.info({ importId: id }, 'an image was made');
      await this.#clear(id);
    } catch (error) {
      // At the end of the daemon it stays as it is; who stops it ends it.
      if (!signal.aborted && !stop.signal.aborted) await this.#failed(work, row, error);
    } finally {
      if (!stop.signal.aborted) this.#works.delete(id);
      work.ended.resolve(undefined);
    }
  }

  async #failed(work: Work, row: ImageImportRow, error: unknown): Promise<void> {
    const { log } = this.#deps;
    const reason = asRackstartError(error);
    log.warn({ importId: row.id, code: reason.code, error }, 'an image import failed');
    // The database, not the image: it is taken up again later.
    if (hasCode(error, 'store.unavailable')) return;
    try {
      await this.#fail(row, work.progress, reason);
      await this.#clear(row.id);
    } catch (again) {
      log.warn({ importId: row.id, reason: asRackstartError(again).message }, 'an image import is ended later');
    }
  }

  /** In the transaction that makes the image known. */
  async #done(tx: Tx, row: ImageImportRow, ...[image, isNew]: [ImageRow, boolean]): Promise<void> {
    const { events, clock, tenantBytes } = this.#deps;
    const { id, tenant_id, name, version, created_by } = row;
    const end = { state: 'done', stage: null, image_id: image.id, failure: null, ended_at: clock.now() } as const;
    if (!(await records.endImport(tx, id, end))) {
      const { state } = await records.findImport(tx, undefined, id);
      // Whether a commit was done was not known, and it was.
      if (state === 'done') return;
      throw stopped();
    }
    if (!isNew) return;
    if (tenant_id !== null) {
      const used = await records.imageBytesOf(tx, tenant_id);
      if (used > tenantBytes) throw overQuota(used, tenantBytes);
    }
    const data = { kind: 'image', id: image.id, name: `${name}:${version}` } as const;
    await events.append(tx, 'inventory.added', { key: image.id, ...ofTenant(tenant_id), actor: created_by, data });
  }

  /** False when it has ended already. */
  async #fail(
    row: ImageImportRow,
    progress: ImportProgress | undefined,
    { code, message: said }: RackstartError,
    asker?: Asker,
  ): Promise<boolean> {
    const { store, events, clock } = this.#deps;
    const { id, tenant_id, name, version, created_by } = row;
    // What went wrong inside is for the log.
    const message = code === 'internal' ? 'Something went wrong inside the appliance.' : said;
    const failure = JSON.stringify({ code, message });
    return (asker?.store ?? store).transaction(async (tx) => {
      const end = { state: 'failed', stage: progress?.stage ?? null, image_id: null, failure } as const;
      if (!(await records.endImport(tx, id, { ...end, ended_at: clock.now() }))) return false;
      const who = asker === undefined ? { actor: created_by } : { actor: asker.actor, origin: asker.origin };
      const data = { importId: id, name, version, code, message };
      await events.append(tx, 'image.import-failed', { key: id, ...ofTenant(tenant_id), ...who, data });
      return true;
    });
  }

  #present(row: ImageImportRow): ImageImport {
    const known = row.state === 'running' ? this.#works.get(row.id)?.progress : undefined;
    return { ...row, progress: known ?? WAITING };
  }

  #file(id: string): string {
    return join(this.#deps.directory, id, 'image');
  }

  async #clear(id: string): Promise<void> {
    await rm(join(this.#deps.directory, id), { recursive: true, force: true });
  }
}

/** One that this process works on, or will. */
interface Work {
  readonly id: string;
  /** Undefined until it is written down. */
  row: ImageImportRow | undefined;
  progress: ImportProgress;
  readonly stop: AbortController;
  readonly ended: PromiseWithResolvers<undefined>;
}

function newWork(id: string): Work {
  const ended = Promise.withResolvers<undefined>();
  return { id, row: undefined, progress: WAITING, stop: new AbortController(), ended };
}

const WAITING: ImportProgress = { stage: 'waiting', done: 0, total: null };

function rowOf(
  id: string,
  { tenantId, name, version, format, sha256, rootPartition, kernelArgs }: Declaration,
  from: Pick<ImageImportRow, 'upload_id' | 'url' | 'reserved_bytes'>,
): ImageImportRow {
  return {
    ...{ id, tenant_id: tenantId, name, version, format, sha256: sha256.toLowerCase() },
    ...{ root_partition: rootPartition ?? null, kernel_args: kernelArgs, ...from },
    ...{ state: 'running', stage: null, image_id: null, failure: null, created_by: '', created_at: 0, ended_at: null },
  };
}

function ofTenant(tenantId: string | null): { tenantId: string } | undefined {
  return tenantId === null ? undefined : { tenantId };
}

function stopped(): RackstartError {
  return new RackstartError('cancelled', 'The image import was stopped.');
}

/** How often it is looked for what was left. */
const PERIOD = 5 * MINUTE;
/** For how long one that has ended is told of. */
const KEPT = 30 * 24 * HOUR;
/** Of one tenant, or of operators, at the same time. */
const MOST_OF_ONE = 16;
