import { createCipheriv, createDecipheriv, createHmac, hkdfSync } from 'node:crypto';

import type { Clock } from '../kernel/clock.ts';
import { HOUR } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Secret } from '../kernel/secret.ts';
import type { IdempotencyKeyRow } from '../store/schema.ts';
import type { Store, Tx } from '../store/store.ts';

/** Longer than a client tries again; the draft leaves the time to the server, and a day is what others keep. */
export const ANSWERS_KEPT = 24 * HOUR;

/** One use of an Idempotency-Key: by whom, for what. */
export interface Claim {
  /** The id of the API key, and the key itself as it was presented. */
  readonly caller: string;
  readonly presented: Secret;
  readonly route: string;
  readonly key: string;
  /** What is asked, in one spelling. */
  readonly asked: string;
}

export interface RememberedAnswer extends Pick<IdempotencyKeyRow, 'state' | 'status' | 'created_at'> {
  readonly isSameRequest: boolean;
  /** Undefined when the caller's key is not the one that it was sealed for: somebody has rotated it. */
  readonly body: string | null | undefined;
}

export interface RememberedAnswersDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly ids: Ids;
  /** What is kept is bound to this appliance by it. */
  readonly apiKeyHmac: Secret;
}

/**
 * What POSTs with an Idempotency-Key were answered. An answer may hold a secret (a new API key), so that each is sealed
 * (AES-256-GCM) under a key that follows from the API key of its caller, which the database has not: a copy of the database
 * opens none, not even with the master key.
 */
export class RememberedAnswers {
  readonly #deps: RememberedAnswersDeps;

  constructor(deps: RememberedAnswersDeps) {
    this.#deps = deps;
  }

  async find(claim: Claim): Promise<RememberedAnswer | undefined> {
    const row = await this.#deps.store.read
      .selectFrom('idempotency_keys')
      .selectAll()
      .where('caller', '=', claim.caller)
      .where('route', '=', claim.route)
      .where('key', '=', claim.key)
      .where('created_at', '>', this.#oldest())
      .executeTakeFirst();
    if (row === undefined) return undefined;
    const { state, status, answer, created_at } = row;
    const body = answer === null ? null : this.#open(claim, answer);
    return { state, status, created_at, body, isSameRequest: row.digest === this.#digest(claim) };
  }

  /** Writes that this is `done`, in the transaction that does it, or `begun`, before. False when somebody else has. */
  async claim(tx: Tx, claim: Claim, state: 'begun' | 'done'): Promise<boolean> {
    const { caller, route, key } = claim;
    await tx
      .deleteFrom('idempotency_keys')
      .where('caller', '=', caller)
      .where('route', '=', route)
      .where('key', '=', key)
      .where('created_at', '<=', this.#oldest())
      .execute();
    return this.#insert(tx, claim, { state, status: null, answer: null });
  }

  /** The answer to what was claimed. */
  async answer(claim: Claim, status: number, body: string | null): Promise<void> {
    const answer = body === null ? null : this.#seal(claim, body);
    await this.#deps.store.transaction(async (tx) => {
      await tx
        .updateTable('idempotency_keys')
        .set({ state: 'answered', status, answer })
        .where('caller', '=', claim.caller)
        .where('route', '=', claim.route)
        .where('key', '=', claim.key)
        .execute();
      await this.#prune(tx);
    });
  }

  /** The answer to what changed nothing, and was not claimed. False when somebody else has claimed or answered it. */
  async answerUnclaimed(claim: Claim, status: number, body: string | null): Promise<boolean> {
    const answer = body === null ? null : this.#seal(claim, body);
    return this.#deps.store.transaction(async (tx) => {
      await this.#prune(tx);
      return this.#insert(tx, claim, { state: 'answered', status, answer });
    });
  }

  /** As if what was begun had never been asked for. */
  async forget({ caller, route, key }: Claim): Promise<void> {
    await this.#deps.store.transaction((tx) =>
      tx
        .deleteFrom('idempotency_keys')
        .where('caller', '=', caller)
        .where('route', '=', route)
        .where('key', '=', key)
        .where('state', '=', 'begun')
        .execute(),
    );
  }

  async #insert(
    tx: Tx,
    claim: Claim,
    answer: Pick<IdempotencyKeyRow, 'state' | 'status' | 'answer'>,
  ): Promise<boolean> {
    const { caller, route, key } = claim;
    const { numInsertedOrUpdatedRows } = await tx
      .insertInto('idempotency_keys')
      .values({ caller, route, key, digest: this.#digest(claim), ...answer, created_at: this.#deps.clock.now() })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    return numInsertedOrUpdatedRows === 1n;
  }

  // Whoever stores one takes old ones away: there are never many more than a day brings.
  async #prune(tx: Tx): Promise<void> {
    const old = await tx
      .selectFrom('idempotency_keys')
      .select(['caller', 'route', 'key'])
      .where('created_at', '<=', this.#oldest())
      .orderBy('created_at')
      .limit(MOST_PRUNED)
      .execute();
    for (const { caller, route, key } of old) {
      await tx
        .deleteFrom('idempotency_keys')
        .where('caller', '=', caller)
        .where('route', '=', route)
        .where('key', '=', key)
        .execute();
    }
  }

  #oldest(): number {
    return this.#deps.clock.now() - ANSWERS_KEPT;
  }

  // Keyed: a request may hold a password that somebody could guess, and try guesses on a plain hash.
  #digest({ asked }: Claim): string {
    return createHmac('sha256', this.#deps.apiKeyHmac.reveal()).update('idempotency\0').update(asked).digest('hex');
  }

  #seal(claim: Claim, body: string): string {
    const nonce = this.#deps.ids.random(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#key(claim), nonce);
    const sealed = Buffer.concat([nonce, cipher.update(body, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return sealed.toString('base64url');
  }

  #open(claim: Claim, answer: string): string | undefined {
    const sealed = Buffer.from(answer, 'base64url');
    const [nonce, text] = [sealed.subarray(0, NONCE_BYTES), sealed.subarray(NONCE_BYTES, -TAG_BYTES)];
    const decipher = createDecipheriv('aes-256-gcm', this.#key(claim), nonce, { authTagLength: TAG_BYTES });
    try {
      decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
      return decipher.update(text, undefined, 'utf8') + decipher.final('utf8');
    } catch {
      return undefined;
    }
  }

  // Of one row alone: an answer that somebody moves to another row opens nowhere.
  #key({ presented, caller, route, key }: Claim): Buffer {
    const info = JSON.stringify([caller, route, key]);
    // RFC 5869. The info may be 1,024 bytes long, and is hashed for that.
    const about = createHmac('sha256', 'rackstart answers').update(info).digest();
    return Buffer.from(hkdfSync('sha256', presented.reveal(), this.#deps.apiKeyHmac.reveal(), about, 32));
  }
}

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const MOST_PRUNED = 20;
