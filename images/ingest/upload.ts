import type { FileHandle } from 'node:fs/promises';
import { mkdir, open, readFile, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { syncDirectory, writeOnce } from '../../appliance/kernel/durable-file.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { Ids } from '../../appliance/kernel/ids.ts';
import type { Declaration } from './declaration.ts';
import { isDiskFull, roomIn, storeFull } from './disk-room.ts';

/** What a sender declares before the first byte; all of it is held against what comes. */
export interface NewUpload extends Declaration {
  readonly bytes: number;
}

export interface Upload extends NewUpload {
  readonly id: string;
  readonly expiresAt: Millis;
  /** So many bytes are here, from the first on: where the next part begins. */
  readonly received: number;
}

export interface UploadStoreDeps {
  readonly directory: string;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly limits: UploadLimits;
  /** Bytes that a file may still take in the directory; `roomIn` when left out. */
  readonly room?: (directory: string) => Promise<number>;
}

export interface UploadLimits {
  /** Of one upload. */
  readonly mostBytes: number;
  /** Of all that one tenant has, under way by what was declared. */
  readonly tenantBytes: number;
  /** Of one tenant, or of operators, at the same time. */
  readonly atOnce: number;
  /** From the begin to the last byte, and until it is taken. */
  readonly lifetime: Millis;
}

/**
 * Files on their way here, in parts: a sender asks how far one is, and sends what follows (as tus 1.0.0 does it: HEAD, PATCH at
 * an offset). A directory for each holds what was declared and what came: there is no other record that could disagree, and a
 * kill at any moment leaves an upload that goes on, or one that `collect` removes. One store alone looks after a directory.
 */
export class UploadStore {
  readonly #deps: UploadStoreDeps;
  /** Uploads that somebody works on. */
  readonly #busy = new Set<string>();
  /** Reservations are made one after another, so that two do not both find the last room. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(deps: UploadStoreDeps) {
    this.#deps = deps;
  }

  /**
   * Reserves room for a file. `otherwise`: what its tenant has beside uploads, in bytes. Errors: `image.too-large`;
   * `quota.exceeded` when its tenant has as much already; `image.store-full` when what is free is promised to others.
   */
  begin(upload: NewUpload, otherwise = () => Promise.resolve(0)): Promise<Upload> {
    return this.#inTurn(async () => {
      const { directory, ids, clock, limits, room = roomIn } = this.#deps;
      await mkdir(directory, { recursive: true, mode: 0o700 });
      const all = await this.#all();
      checkLimits(upload, all, await otherwise(), limits);
      const promised = all.reduce((sum, { bytes, received }) => sum + bytes - received, 0);
      const free = Math.max(0, (await room(directory)) - promised);
      if (upload.bytes > free) throw storeFull('The upload has no room', upload.bytes, free);
      const id = ids.next('upl');
      const record: Stored = {
        ...upload,
        sha256: upload.sha256.toLowerCase(),
        expiresAt: clock.now() + limits.lifetime,
      };
      await mkdir(join(directory, id), { mode: 0o700 });
      await (await open(this.#data(id), 'wx', 0o600)).close();
      // The last: what has a record is whole.
      await writeOnce(this.#record(id), JSON.stringify(record), 0o600);
      await syncDirectory(directory);
      return { id, ...record, received: 0 };
    });
  }

  /** Of this tenant, or of all; the oldest first. */
  async list(tenantId: string | undefined): Promise<readonly Upload[]> {
    const now = this.#deps.clock.now();
    return (await this.#all()).filter((upload) => isOf(upload, tenantId) && upload.expiresAt > now);
  }

  /** Declared by this tenant, in bytes. */
  async reserved(tenantId: string): Promise<number> {
    return (await this.list(tenantId)).reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Of this tenant, or anybody's. Errors: `not-found` for one that is unknown, expired or another's. */
  async find(tenantId: string | undefined, id: string): Promise<Upload> {
    const upload = await this.#read(id);
    if (upload && isOf(upload, tenantId) && upload.expiresAt > this.#deps.clock.now()) return upload;
    throw notFound(id);
  }

  /**
   * Takes what follows `offset`, until the content ends; resolves when it is on the disk. A content that breaks off leaves what
   * came of it. Errors: `upload.offset` when the next part begins elsewhere (`details.offset`); `upload.busy` while another part
   * comes; `request.too-large` for more than was declared; `image.store-full`, and then nothing of the upload stays.
   */
  async append(
    tenantId: string | undefined,
    id: string,
    offset: number,
    content: AsyncIterable<Uint8Array>,
  ): Promise<Upload> {
    const upload = await this.find(tenantId, id);
    return this.#alone(id, async () => {
      const file = await open(this.#data(id), 'r+');
      try {
        const { size } = await file.stat();
        if (offset !== size) throw elsewhere(id, offset, size);
        const received = await this.#receive(file, upload, size, content);
        return { ...upload, received };
      } catch (error) {
        if (!isDiskFull(error)) throw error;
        await this.#remove(id);
        throw new RackstartError('image.store-full', 'The disk became full; the upload was removed.', { cause: error });
      } finally {
        await file.close();
      }
    });
  }

  /**
   * Gives a whole upload away: `accept` writes down who has it from now on, and gives the path that its file goes to, on the same
   * file system. A kill in between leaves it to `handOver`. Errors: `upload.incomplete`, `upload.busy`; what `accept` throws.
   */
  async take(tenantId: string | undefined, id: string, accept: (upload: Upload) => Promise<string>): Promise<void> {
    await this.find(tenantId, id);
    await this.#alone(id, async () => {
      const upload = await this.find(tenantId, id);
      if (upload.received < upload.bytes) {
        throw new RackstartError('upload.incomplete', `${upload.received} of ${upload.bytes} bytes are here.`);
      }
      await this.handOver(id, await accept(upload));
    });
  }

  /** Moves what came to `file`, where it is not there yet, and forgets the upload. */
  async handOver(id: string, file: string): Promise<void> {
    if (!ID.test(id)) return;
    await rename(this.#data(id), file).catch(absent);
    await syncDirectory(dirname(file));
    await this.#remove(id);
  }

  /** Gives its room back. Errors: `not-found`, `upload.busy`. */
  async cancel(tenantId: string | undefined, id: string): Promise<Upload> {
    const upload = await this.find(tenantId, id);
    await this.#alone(id, () => this.#remove(id));
    return upload;
  }

  /** Removes what has expired, and what a kill left without a record. Gives their ids. */
  collect(): Promise<readonly string[]> {
    return this.#inTurn(async () => {
      const removed: string[] = [];
      for (const id of await this.#ids()) {
        const upload = await this.#read(id);
        if (this.#busy.has(id) || (upload !== undefined && upload.expiresAt > this.#deps.clock.now())) continue;
        await this.#remove(id);
        removed.push(id);
      }
      return removed;
    });
  }

  async #receive(file: FileHandle, upload: Upload, from: number, content: AsyncIterable<Uint8Array>): Promise<number> {
    const { clock } = this.#deps;
    let at = from;
    try {
      for await (const chunk of content) {
        if (at + chunk.length > upload.bytes) throw tooMuch(upload);
        if (clock.now() >= upload.expiresAt) throw notFound(upload.id);
        await writeWhole(file, chunk, at);
        at += chunk.length;
      }
      return at;
    } finally {
      await file.datasync();
    }
  }

  /** One at a time works on an upload; who comes meanwhile is refused, since the other may take hours. */
  async #alone<T>(id: string, work: () => Promise<T>): Promise<T> {
    if (this.#busy.has(id)) throw new RackstartError('upload.busy', `Upload ${id} is worked on.`);
    this.#busy.add(id);
    try {
      return await work();
    } finally {
      this.#busy.delete(id);
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => undefined);
    return mine;
  }

  async #all(): Promise<readonly Upload[]> {
    const uploads = await Promise.all((await this.#ids()).map((id) => this.#read(id)));
    return uploads.filter((upload) => upload !== undefined);
  }

  async #ids(): Promise<readonly string[]> {
    const names = await readdir(this.#deps.directory).catch(absent);
    return (names ?? []).filter((name) => ID.test(name));
  }

  async #read(id: string): Promise<Upload | undefined> {
    if (!ID.test(id)) return undefined;
    const text = await readFile(this.#record(id), 'utf8').catch(absent);
    const data = await stat(this.#data(id)).catch(absent);
    if (text === undefined || data === undefined) return undefined;
    return { id, ...(JSON.parse(text) as Stored), received: data.size };
  }

  /** The record goes first: what has none is nobody's, however far the rest came. */
  async #remove(id: string): Promise<void> {
    await rm(this.#record(id), { force: true });
    await rm(join(this.#deps.directory, id), { recursive: true, force: true });
  }

  #record(id: string): string {
    return join(this.#deps.directory, id, 'upload.json');
  }

  #data(id: string): string {
    return join(this.#deps.directory, id, 'data');
  }
}

/** What its file holds: written once, by us. */
type Stored = NewUpload & { readonly expiresAt: Millis };

const ID = /^upl_[0-9a-z]{26}$/;

function isOf({ tenantId }: Upload, asked: string | undefined): boolean {
  return asked === undefined || tenantId === asked;
}

function checkLimits(
  { tenantId, bytes }: NewUpload,
  all: readonly Upload[],
  otherwise: number,
  limits: UploadLimits,
): void {
  if (bytes > limits.mostBytes) {
    throw new RackstartError('image.too-large', `A file of ${bytes} bytes; at most ${limits.mostBytes} are taken.`);
  }
  const own = all.filter((upload) => upload.tenantId === tenantId);
  if (own.length >= limits.atOnce) {
    const why = `${own.length} uploads are under way, as many as may be at once.`;
    throw new RackstartError('quota.exceeded', why, { details: { uploads: own.length } });
  }
  if (tenantId === null) return;
  const used = own.reduce((sum, upload) => sum + upload.bytes, otherwise);
  if (used + bytes > limits.tenantBytes) throw overQuota(used, limits.tenantBytes);
}

/** A tenant's images, and what is to become some, have no room in its quota. */
export function overQuota(used: number, most: number): RackstartError {
  const why = `The images of this tenant, and those under way, take ${used} of the ${most} bytes that they may.`;
  return new RackstartError('quota.exceeded', why, { details: { used, most } });
}

async function writeWhole(file: FileHandle, chunk: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < chunk.length;) {
    done += (await file.write(chunk, done, chunk.length - done, at + done)).bytesWritten;
  }
}

function absent(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
  throw error;
}

function notFound(id: string): RackstartError {
  return new RackstartError('not-found', `There is no upload ${JSON.stringify(id.slice(0, 40))}.`);
}

function elsewhere(id: string, offset: number, size: number): RackstartError {
  return new RackstartError('upload.offset', `Upload ${id} goes on at byte ${size}, not at ${offset}.`, {
    details: { offset: size },
  });
}

function tooMuch({ bytes }: Upload): RackstartError {
  return new RackstartError('request.too-large', `More came than the ${bytes} bytes that were declared.`);
}
