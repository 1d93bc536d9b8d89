import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { open, readFile, rename, rm, writeFile } from 'node:fs/promises';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';
import { isDiskFull, roomIn, storeFull } from './disk-room.ts';
import type { Answer } from './download.ts';
import { ask, unbroken } from './download.ts';
import { sha256OfFile } from './sha256.ts';
import type { SourceRules } from './source-url.ts';
import { checkedAddresses, checkedUrl, sourceFailed } from './source-url.ts';

export interface Import {
  readonly url: string;
  /** Of the file there, hex: mandatory, since the server is not what is trusted. */
  readonly sha256: string;
  /** Where it goes. What lies there of an earlier try at the same URL and digest is gone on with. */
  readonly file: string;
  readonly signal: AbortSignal;
  /** `total`: null where the server does not say. */
  readonly progress?: (stage: 'fetching' | 'hashing', done: number, total: number | null) => void;
}

export interface ImportDeps {
  readonly clock: Clock;
  readonly rules: SourceRules;
  readonly limits: {
    readonly mostBytes: number;
    readonly silence: Millis;
    readonly inAll: Millis;
    readonly tries: number;
  };
  /** PEM; the system's authorities when left out. */
  readonly ca?: string;
}

/**
 * Fetches an image from an https server to `file`, whole and with the digest that was named. A stream that breaks is gone on
 * with where it ended, a few times and after a restart, as long as the server says that the file is the same; each time the
 * name is resolved and its addresses are checked anew.
 *
 * Errors: `image.source-refused`, `image.too-large`, `image.digest`, `image.store-full`: nothing stays. `image.source-failed`:
 * what came stays for the next try.
 */
export async function importImage(wanted: Import, deps: ImportDeps): Promise<{ bytes: number }> {
  const url = checkedUrl(wanted.url, deps.rules);
  const expired = new AbortController();
  const signal = AbortSignal.any([wanted.signal, expired.signal]);
  const { clock, limits } = deps;
  const done = new AbortController();
  clock.sleepUntil(clock.now() + limits.inAll, done.signal).then(
    () => expired.abort(sourceFailed(`The import took longer than ${limits.inAll} ms`)),
    () => undefined,
  );
  try {
    return await fetched(url, { ...wanted, signal }, deps);
  } catch (error) {
    const keep = !(error instanceof RackstartError) || error.code === 'image.source-failed';
    if (!keep) await remove(wanted.file);
    throw error;
  } finally {
    done.abort();
  }
}

async function fetched(url: URL, wanted: Import, deps: ImportDeps): Promise<{ bytes: number }> {
  const { clock, limits } = deps;
  for (let attempt = 1; ; attempt++) {
    try {
      const bytes = await fetchRest(url, wanted, deps);
      await checkDigest(wanted);
      await rm(besideOf(wanted.file), { force: true });
      return { bytes };
    } catch (error) {
      wanted.signal.throwIfAborted();
      const mayPass = error instanceof RackstartError && error.code === 'image.source-failed';
      if (!mayPass || attempt >= limits.tries) throw error;
      await clock.sleepUntil(clock.now() + 1_000 * 2 ** (attempt - 1), wanted.signal);
    }
  }
}

/** Gives the size of the whole. */
async function fetchRest(url: URL, wanted: Import, { clock, rules, limits, ca }: ImportDeps): Promise<number> {
  const { file, signal } = wanted;
  const handle = await open(file, 'a+', 0o600);
  try {
    const known = await readState(wanted);
    const here = (await handle.stat()).size;
    const offset = known?.validator === undefined ? 0 : here;
    if (known?.bytes !== undefined && known.bytes === offset) return offset;
    // Any of them: all are checked. Which one answers is the next try's matter.
    const [address = ''] = await checkedAddresses(url, rules);
    const answer = await ask({ url, address, offset, validator: known?.validator, ca, signal });
    await requireRoom(file, answer, limits.mostBytes);
    // First: the state must never speak of bytes that are another file's.
    if (answer.offset < here) await handle.truncate(answer.offset);
    await writeState(wanted, answer);
    const content = unbroken(answer.content, { clock, silence: limits.silence, signal });
    const total = answer.bytes ?? null;
    const progress = (done: number) => wanted.progress?.('fetching', done, total);
    return await receive(handle, answer, content, { mostBytes: limits.mostBytes, progress });
  } catch (error) {
    if (isDiskFull(error)) throw new RackstartError('image.store-full', 'The disk became full.', { cause: error });
    throw error;
  } finally {
    await handle.close();
  }
}

async function receive(
  handle: FileHandle,
  { offset, bytes }: Answer,
  content: AsyncIterable<Buffer>,
  { mostBytes, progress }: { mostBytes: number; progress: (done: number) => void },
): Promise<number> {
  let at = offset;
  try {
    for await (const chunk of brokenAsFailed(content)) {
      if (at + chunk.length > Math.min(mostBytes, bytes ?? mostBytes)) throw tooLarge(mostBytes);
      // Opened for appending: it goes to the end, whole.
      await handle.appendFile(chunk);
      at += chunk.length;
      progress(at);
    }
  } finally {
    await handle.datasync();
  }
  if (bytes !== undefined && at < bytes) throw sourceFailed(`The stream ended at byte ${at} of ${bytes}`);
  return at;
}

/** What a socket throws when it is cut. */
async function* brokenAsFailed(content: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield* content;
  } catch (cause) {
    if (cause instanceof RackstartError) throw cause;
    throw sourceFailed(`The stream broke off: ${cause instanceof Error ? cause.message : String(cause)}`, cause);
  }
}

async function requireRoom(file: string, { offset, bytes }: Answer, mostBytes: number): Promise<void> {
  if (bytes === undefined) return;
  if (bytes > mostBytes) throw tooLarge(mostBytes);
  const free = await roomIn(dirname(file));
  if (bytes - offset > free) throw storeFull('The image has no room', bytes - offset, free);
}

async function checkDigest({ file, sha256, signal, progress }: Import): Promise<void> {
  progress?.('hashing', 0, null);
  const found = await sha256OfFile(file, signal, (done, of) => progress?.('hashing', done, of));
  if (found === sha256.toLowerCase()) return;
  throw new RackstartError('image.digest', `The file there has SHA-256 ${found}, not ${sha256}.`);
}

/** Beside the file: of what it is the begin. */
interface State {
  readonly url: string;
  readonly sha256: string;
  readonly validator?: string | undefined;
  readonly bytes?: number | undefined;
}

async function readState({ file, url, sha256 }: Import): Promise<State | undefined> {
  const text = await readFile(besideOf(file), 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const state = JSON.parse(text) as State;
  return state.url === url && state.sha256 === sha256.toLowerCase() ? state : undefined;
}

/** Before the first byte that it is about; whole or not at all. */
async function writeState({ file, url, sha256 }: Import, { validator, bytes }: Answer): Promise<void> {
  const state: State = { url, sha256: sha256.toLowerCase(), validator, bytes };
  const draft = `${besideOf(file)}.new`;
  await writeFile(draft, JSON.stringify(state), { mode: 0o600 });
  await rename(draft, besideOf(file));
}

async function remove(file: string): Promise<void> {
  await Promise.all([file, besideOf(file), `${besideOf(file)}.new`].map((path) => rm(path, { force: true })));
}

function besideOf(file: string): string {
  return `${file}.source`;
}

function tooLarge(mostBytes: number): RackstartError {
  return new RackstartError('image.too-large', `The server sends more than ${mostBytes} bytes, or than it said.`);
}
