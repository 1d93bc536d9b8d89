import { SECOND } from '../appliance/kernel/clock.ts';
import type { Clock, Millis } from '../appliance/kernel/clock.ts';
import type { Ids } from '../appliance/kernel/ids.ts';
import type { Log } from '../appliance/kernel/log.ts';
import type { Service } from '../appliance/kernel/service.ts';
import type { BootSessionRow, TimelineRow } from '../appliance/store/schema.ts';
import type { Reader, Store, Tx } from '../appliance/store/store.ts';
import type { SeenPacket, Timeline, TimelineEntry, TimelineOwner } from './timeline.ts';

export interface StoreTimelineOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  /** Entries that may wait to be written; beyond it the oldest is dropped. */
  readonly capacity?: number;
}

/**
 * The timeline in the store. Entries wait in memory and are written in batches, so that a packet is answered before it
 * is told of and a storm costs one transaction. Strangers' entries are dropped when they are written; a store that
 * can't be written keeps them waiting, as long as there is room.
 */
export class StoreTimeline implements Timeline, Service {
  readonly name = 'timeline';
  readonly #options: StoreTimelineOptions;
  readonly #capacity: number;
  #waiting: Waiting[] = [];
  #dropped = 0;
  #toldDropped = 0;
  #arrived = new AbortController();

  constructor(options: StoreTimelineOptions) {
    this.#options = options;
    this.#capacity = options.capacity ?? 20_000;
  }

  /** How many entries were lost since the start because too many waited. */
  get dropped(): number {
    return this.#dropped;
  }

  seen(owner: TimelineOwner, entry: TimelineEntry): void {
    if (this.#waiting.length >= this.#capacity) {
      this.#waiting.shift();
      this.#dropped += 1;
    }
    this.#waiting.push({ id: this.#options.ids.next('tl'), owner, entry });
    this.#arrived.abort(ARRIVED);
  }

  /** Writes what waits, a moment after it came; what still waits when `signal` aborts is written before it returns. */
  async run(signal: AbortSignal): Promise<void> {
    let pause = GATHER;
    while (!signal.aborted) {
      await aborted(AbortSignal.any([this.#arrived.signal, signal]));
      await this.#rest(pause, signal);
      this.#arrived = new AbortController();
      pause = (await this.#write()) ? GATHER : RETRY;
      if (this.#waiting.length > 0) this.#arrived.abort(ARRIVED);
    }
    // Less than a portion may be left.
    if (await this.#write()) await this.#writeSome();
  }

  /** Whole portions, or all. False when it failed; what could not be written waits on. */
  async #write(): Promise<boolean> {
    do {
      if (!(await this.#writeSome())) return false;
    } while (this.#waiting.length >= ROWS_A_STATEMENT);
    return true;
  }

  /** Cut short when the signal aborts. */
  async #rest(duration: Millis, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    try {
      await clock.sleepUntil(clock.now() + duration, signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  async #writeSome(): Promise<boolean> {
    const { store, log } = this.#options;
    const batch = this.#waiting.splice(0, ROWS_A_STATEMENT);
    if (batch.length === 0) return true;
    if (this.#dropped > this.#toldDropped) {
      this.#toldDropped = this.#dropped;
      log.warn({ dropped: this.#dropped }, 'timeline lost its oldest entries');
    }
    try {
      const rows = await this.#rows(batch);
      if (rows.length > 0) await store.transaction((tx) => insert(tx, rows));
      return true;
    } catch (error) {
      const kept = [...batch, ...this.#waiting];
      this.#dropped += Math.max(0, kept.length - this.#capacity);
      this.#waiting = kept.slice(-this.#capacity);
      log.warn({ err: error, waiting: this.#waiting.length }, 'timeline could not be written');
      return false;
    }
  }

  async #rows(batch: readonly Waiting[]): Promise<TimelineRow[]> {
    const { read } = this.#options.store;
    const machines = await machinesOf(
      read,
      batch.map(({ owner }) => owner),
    );
    const sessions = await sessionsOf(
      read,
      new Set(machines.values()),
      Math.min(...batch.map(({ entry }) => entry.at)),
    );
    const sessionsByMachine = Map.groupBy(sessions, ({ machine_id }) => machine_id);
    return batch.flatMap(({ id, owner, entry }) => {
      const machineId = machines.get(textOf(owner));
      if (machineId === undefined) return [];
      const { at, source, name } = entry;
      const session = sessionsByMachine.get(machineId)?.find((row) => wasOpen(row, at));
      const [detail, packet] = [asText(entry.detail), entry.packet === undefined ? null : packetText(entry.packet)];
      return [{ id, machine_id: machineId, session_id: session?.id ?? null, at, source, name, detail, packet }];
    });
  }
}

/** An entry as it was written: which machine it is of, and which boot session was open then. */
export interface TimelineRecord extends TimelineEntry {
  readonly id: string;
  readonly machineId: string;
  readonly sessionId?: string;
}

/**
 * What was seen of some boots or of a machine, oldest first; at most `limit`, the newest. Packets are left out, and what the
 * serial console showed unless it is asked for: both are large.
 */
export async function readTimeline(
  reader: Reader,
  of: { readonly sessionIds: readonly string[] } | { readonly machineId: string },
  limit = 10_000,
  { withConsole = false } = {},
): Promise<TimelineRecord[]> {
  const newestFirst = reader
    .selectFrom('timeline')
    .select(['id', 'machine_id', 'session_id', 'at', 'source', 'name', 'detail'])
    .$if(!withConsole, (query) => query.where('source', '!=', 'console'))
    .orderBy('at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit);
  const rows =
    'machineId' in of
      ? await newestFirst.where('machine_id', '=', of.machineId).execute()
      : of.sessionIds.length === 0
        ? []
        : await newestFirst.where('session_id', 'in', of.sessionIds).execute();
  return rows.reverse().map((row) => recordOf({ ...row, packet: null }));
}

/** Everything that was seen of one boot, packets and console too, oldest first, read as it is taken. */
export async function* wholeTimeline(reader: Reader, sessionId: string): AsyncGenerator<TimelineRecord, void> {
  let last = { at: 0, id: '' };
  for (;;) {
    const { at, id } = last;
    const rows = await reader
      .selectFrom('timeline')
      .selectAll()
      .where('session_id', '=', sessionId)
      .where((eb) => eb.or([eb('at', '>', at), eb.and([eb('at', '=', at), eb('id', '>', id)])]))
      .orderBy('at')
      .orderBy('id')
      .limit(ROWS_A_STATEMENT)
      .execute();
    yield* rows.map(recordOf);
    if (rows.length < ROWS_A_STATEMENT) return;
    last = rows.at(-1) ?? last;
  }
}

function recordOf({ id, machine_id, session_id, at, source, name, detail, packet }: TimelineRow): TimelineRecord {
  return {
    id,
    machineId: machine_id,
    ...(session_id === null ? {} : { sessionId: session_id }),
    at,
    source,
    name,
    detail: JSON.parse(detail) as Record<string, unknown>,
    ...(packet === null ? {} : { packet: seenPacket(packet) }),
  };
}

// Made once: an abort without a reason makes a DOMException with its stack, for each packet.
const ARRIVED = new Error('an entry has arrived');

interface Waiting {
  readonly id: string;
  readonly owner: TimelineOwner;
  readonly entry: TimelineEntry;
}

// How long entries gather into one transaction: people watch a boot live, and a quarter of a second is live enough.
const GATHER: Millis = SECOND / 4;
// For a store that is being restarted.
const RETRY: Millis = 2 * SECOND;

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

// 4 ms of a turn of the event loop: more at once would hold DHCP up. (SQLite takes 32,766 values a statement; a row has eight.)
const ROWS_A_STATEMENT = 100;

async function insert(tx: Tx, rows: TimelineRow[]): Promise<void> {
  await tx
    .insertInto('timeline')
    .values(rows)
    // A commit whose answer was lost is written again.
    .onConflict((conflict) => conflict.column('id').doNothing())
    .execute();
}

/** Machines by the MACs of their NICs and by the addresses that are reserved for these. */
async function machinesOf(read: Reader, owners: readonly TimelineOwner[]): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const macs = new Set(owners.filter((owner) => typeof owner === 'string'));
  if (macs.size > 0) {
    const nics = read
      .selectFrom('machine_nics')
      .select(['mac', 'machine_id'])
      .where('mac', 'in', [...macs]);
    for (const { mac, machine_id } of await nics.execute()) found.set(mac, machine_id);
  }
  const addresses = new Set(owners.filter((owner) => typeof owner !== 'string').map(({ address }) => address));
  if (addresses.size > 0) {
    const reserved = read
      .selectFrom('addresses')
      .innerJoin('machine_nics', 'machine_nics.mac', 'addresses.holder_id')
      .select(['addresses.address', 'machine_nics.machine_id'])
      .where('addresses.holder_kind', '=', 'nic')
      .where('addresses.address', 'in', [...addresses]);
    for (const { address, machine_id } of await reserved.execute()) found.set(address, machine_id);
  }
  return found;
}

// A MAC never looks like an address: both may be keys of one map.
function textOf(owner: TimelineOwner): string {
  return typeof owner === 'string' ? owner : owner.address;
}

type Session = Pick<BootSessionRow, 'id' | 'machine_id' | 'opened_at' | 'ended_at'>;

/** The newest first, so that at the moment where one ends and the next is opened the next one has the entry. */
async function sessionsOf(read: Reader, machineIds: ReadonlySet<string>, since: Millis): Promise<Session[]> {
  if (machineIds.size === 0) return [];
  return read
    .selectFrom('boot_sessions')
    .select(['id', 'machine_id', 'opened_at', 'ended_at'])
    .where('machine_id', 'in', [...machineIds])
    .where((or) => or.or([or('ended_at', 'is', null), or('ended_at', '>=', since)]))
    .orderBy('opened_at', 'desc')
    .execute();
}

function wasOpen({ opened_at, ended_at }: Session, at: Millis): boolean {
  return opened_at <= at && (ended_at === null || at <= ended_at);
}

const LONGEST_DETAIL = 8 * 1024;

// One entry that is too long or no JSON must not keep the others from being written.
function asText(detail: TimelineEntry['detail']): string {
  try {
    const text = JSON.stringify(detail);
    return text.length <= LONGEST_DETAIL ? text : JSON.stringify({ leftOut: `${text.length} characters` });
  } catch {
    return JSON.stringify({ leftOut: 'not JSON' });
  }
}

function packetText({ from, to, bytes }: SeenPacket): string {
  return JSON.stringify({ from, to, data: Buffer.from(bytes).toString('base64') });
}

function seenPacket(text: string): SeenPacket {
  const { from, to, data } = JSON.parse(text) as { from: string; to: string; data: string };
  return { from, to, bytes: Buffer.from(data, 'base64') };
}
