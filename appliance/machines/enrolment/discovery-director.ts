import { createHash } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import type { BootClient, Mac } from '../../../pxe/boot-client.ts';
import type {
  BootDecision,
  BootDirector,
  Claim,
  ClaimGrant,
  HealthCheck,
  Inspection,
  NextOrder,
  RamdiskBoot,
  Report,
  SystemFile,
  WipedDisk,
} from '../../../pxe/boot-plan.ts';
import { deriveToken, isToken, tokenId } from '../../../pxe/http/token.ts';
import type { EventLog } from '../../events/event-log.ts';
import { MINUTE, SECOND } from '../../kernel/clock.ts';
import type { Clock, Millis } from '../../kernel/clock.ts';
import { RackstartError } from '../../kernel/errors.ts';
import type { Ids } from '../../kernel/ids.ts';
import type { Secret } from '../../kernel/secret.ts';
import { parseCidr } from '../../network/address-range.ts';
import type { DiscoveredMachineRow } from '../../store/schema.ts';
import type { Reader, Store, Tx } from '../../store/store.ts';
import { PATIENCE } from '../boot-director.ts';
import { withNeighbours } from '../inventory-drift.ts';
import { checkProtocol } from '../protocol.ts';
import { factsOf } from './strangers.ts';

export interface DiscoveryDeps {
  /** Who directs the boots of machines that are known; asked first. */
  readonly known: BootDirector;
  readonly store: Store;
  readonly events: EventLog;
  readonly tokenKey: KeyObject;
  readonly clock: Clock;
  readonly ids: Ids;
  /** Told when one has told of itself. */
  readonly onDiscovered: () => void;
}

export interface DiscoveryLimits {
  /** So many unknown machines are kept, whatever becomes of them. */
  readonly most: number;
}

/** For which tokens of one boot are good, at least; twice that at most. */
const WINDOW: Millis = 15 * MINUTE;

/** For which its check listens to switches at least: they speak every 30 s by default (msgTxInterval, IEEE 802.1AB-2016). */
const SWITCH_WAIT: Millis = 32 * SECOND;

/** For which an unknown machine waits in the ramdisk to be matched; then it is told to switch itself off. */
export const LINGER: Millis = 10 * MINUTE;

/**
 * A director that has unknown machines inspected, once they boot from the network, and knows no other order for them: nothing it
 * answers names a disk, a file or a secret. Until a machine has claimed, its boot is in no table (tokens follow from its MAC and the
 * time), so that packets of invented MACs leave nothing behind; the rows of those that claim are bounded.
 *
 * What such a machine tells is worth nothing by itself: see `matching.ts`. Whoever claims last is believed to be the one that booted,
 * since nobody switched it on; a bearer buys telling of itself, and the right to wait.
 */
export class DiscoveryDirector implements BootDirector {
  readonly #deps: DiscoveryDeps;
  readonly #limits: DiscoveryLimits;

  constructor(deps: DiscoveryDeps, limits: DiscoveryLimits) {
    this.#deps = deps;
    this.#limits = limits;
  }

  async decide(client: BootClient): Promise<BootDecision> {
    const { known, store } = this.#deps;
    const decision = await known.decide(client);
    if (decision.verb !== 'ignore' || decision.stranger !== true) return decision;
    const row = await findByMac(store.read, client.mac);
    if (row?.state === 'rejected') return { ...decision, why: 'an unknown machine that an operator rejected' };
    const subject = this.#subject(client.mac, 0);
    return { verb: 'inspect', sessionId: subject.id, scriptToken: deriveToken(this.#deps.tokenKey, 'script', subject) };
  }

  async script(mac: Mac, token: Secret): Promise<RamdiskBoot> {
    if (!this.#isOurs('script', mac, token)) return this.#deps.known.script(mac, token);
    const { store, tokenKey } = this.#deps;
    const lease = await this.#lease(store.read, mac);
    if (lease === undefined) throw refused();
    const { address, cidr, gateway } = lease;
    const subject = this.#subject(mac, 0);
    return {
      sessionId: subject.id,
      claimToken: deriveToken(tokenKey, 'claim', subject),
      address: `${address}/${String(parseCidr(cidr).prefixLength)}`,
      ...(gateway === null ? {} : { gateway }),
    };
  }

  async claim(claim: Claim): Promise<ClaimGrant> {
    if (!this.#isOurs('claim', claim.mac, claim.token)) return this.#deps.known.claim(claim);
    checkProtocol(claim.protocol);
    const { store, tokenKey } = this.#deps;
    const nonceHash = createHash('sha256').update(claim.nonce).digest('hex');
    const row = await store.transaction((tx) => this.#admit(tx, claim, nonceHash));
    if (row === undefined) {
      await this.#tellFull(claim);
      throw new RackstartError('discovery.full', 'So many unknown machines wait that no other is taken.');
    }
    const { id, generation } = row;
    return {
      sessionId: id,
      bearer: deriveToken(tokenKey, 'bearer', { id, generation, nonce: nonceHash }),
      // Its health is nobody's business yet: the machine is checked when it is enrolled.
      order: {
        ...{ verb: 'inspect', generation: String(generation), check_memory_mib: '1' },
        switch_wait_s: String(SWITCH_WAIT / SECOND),
      },
    };
  }

  async inspection(bearer: Secret, inspection: Inspection): Promise<void> {
    if (!isDiscovery(bearer)) return this.#deps.known.inspection(bearer, inspection);
    const { store, events, clock } = this.#deps;
    await store.transaction(async (tx) => {
      const { id, mac } = await this.#bearing(tx, bearer);
      const at = clock.now();
      const { serial, vendor, model, uuid } = inspection;
      const told = { facts: JSON.stringify(inspection), uuid, serial, told_at: at, seen_at: at, reason: null };
      const { numUpdatedRows } = await tx
        .updateTable('discovered_machines')
        .set({ ...told, state: 'waiting' })
        .where('id', '=', id)
        .where('state', 'in', ['inspecting', 'waiting'])
        .executeTakeFirst();
      // Enrolled meanwhile, as what it told before this answer was lost.
      if (numUpdatedRows !== 1n) return;
      const data = { discoveredId: id, mac, serial, vendor, model };
      await events.append(tx, 'machine.discovered', { key: id, actor: 'ramdisk', data });
    });
    this.#deps.onDiscovered();
  }

  async report(bearer: Secret, report: Report): Promise<void> {
    if (!isDiscovery(bearer)) return this.#deps.known.report(bearer, report);
    await this.#noteLife(bearer);
  }

  async log(bearer: Secret, text: string): Promise<void> {
    if (!isDiscovery(bearer)) return this.#deps.known.log(bearer, text);
    // Of a machine that is nobody's nothing is kept but what it is made of.
    await this.#noteLife(bearer);
  }

  async check(bearer: Secret, check: HealthCheck): Promise<void> {
    if (!isDiscovery(bearer)) return this.#deps.known.check(bearer, check);
    const { store, clock } = this.#deps;
    await store.transaction(async (tx) => {
      const row = await this.#bearing(tx, bearer);
      const facts = factsOf(row);
      // Nothing of a check is kept but what switches said by then.
      const at = clock.now();
      const nics = facts && withNeighbours(facts.nics, check.nics);
      await tx
        .updateTable('discovered_machines')
        .set({ seen_at: at, ...(facts && { facts: JSON.stringify({ ...facts, nics }), told_at: at }) })
        .where('id', '=', row.id)
        .execute();
    });
    this.#deps.onDiscovered();
  }

  async wiped(bearer: Secret, disk: WipedDisk): Promise<void> {
    if (!isDiscovery(bearer)) return this.#deps.known.wiped(bearer, disk);
    throw stale();
  }

  async files(bearer: Secret): Promise<readonly SystemFile[]> {
    if (!isDiscovery(bearer)) return this.#deps.known.files(bearer);
    throw stale();
  }

  /**
   * There is no next order. One that was enrolled is not told to switch itself off, since its BMC is about to reset it; one that nobody
   * wants after a while is.
   */
  async next(bearer: Secret, generation: number, signal: AbortSignal): Promise<NextOrder | undefined> {
    const { known, store, clock } = this.#deps;
    if (!isDiscovery(bearer)) return known.next(bearer, generation, signal);
    const { state, claimed_at } = await this.#bearing(store.read, bearer);
    const at = clock.now();
    if (state === 'rejected' || (state !== 'enrolled' && at >= claimed_at + LINGER)) throw stale();
    await clock.sleepUntil(at + PATIENCE, signal);
    return undefined;
  }

  /** Undefined when there is no room for another one. */
  async #admit(tx: Tx, { mac, uuid }: Claim, nonceHash: string): Promise<DiscoveredMachineRow | undefined> {
    const at = this.#deps.clock.now();
    const lease = await this.#lease(tx, mac);
    if (lease === undefined) throw refused();
    const known = await tx.selectFrom('machine_nics').select('mac').where('mac', '=', mac).executeTakeFirst();
    if (known !== undefined) throw refused();
    const before = await findByMac(tx, mac);
    if (before?.state === 'rejected') throw refused();
    if (before?.nonce_hash === nonceHash) return before;
    const claimed = {
      ...{ subnet_id: lease.subnet_id, address: lease.address, uuid: uuid.toLowerCase() || null },
      ...{ nonce_hash: nonceHash, claimed_at: at, seen_at: at },
    };
    if (before !== undefined) {
      return tx
        .updateTable('discovered_machines')
        .set((eb) => ({ ...claimed, generation: eb('generation', '+', 1) }))
        .where('id', '=', before.id)
        .returningAll()
        .executeTakeFirst();
    }
    if (!(await this.#makeRoom(tx, at))) return undefined;
    const nothing = { reason: null, serial: null, facts: null, machine_id: null, told_at: null };
    const fresh = {
      id: this.#deps.ids.next('dsc'),
      mac,
      state: 'inspecting',
      generation: 1,
      first_seen_at: at,
    } as const;
    return tx
      .insertInto('discovered_machines')
      .values({ ...claimed, ...nothing, ...fresh })
      .returningAll()
      .executeTakeFirstOrThrow();
  }

  /** Those that were enrolled or that never told anything make room; those that wait, and what was rejected, stay. */
  async #makeRoom(tx: Tx, at: Millis): Promise<boolean> {
    const { count } = await tx
      .selectFrom('discovered_machines')
      .select((eb) => eb.fn.countAll<number>().as('count'))
      .executeTakeFirstOrThrow();
    if (count < this.#limits.most) return true;
    const { numDeletedRows } = await tx
      .deleteFrom('discovered_machines')
      .where('state', 'in', ['inspecting', 'enrolled'])
      .where('claimed_at', '<', at - LINGER)
      .executeTakeFirst();
    return numDeletedRows > 0n;
  }

  /** Once in each window: whoever invents machines fills no log. */
  async #tellFull({ mac, from }: Claim): Promise<void> {
    const { store, events, clock } = this.#deps;
    const at = clock.now();
    const message = `Unknown machine ${mac} was not inspected: ${String(this.#limits.most)} wait already. Accept, reject or forget some (rackstart discovered list).`;
    await store.transaction(async (tx) => {
      const noted = await tx
        .insertInto('timeline')
        .values({
          ...{ id: `discovery-full_${String(Math.floor(at / WINDOW))}`, machine_id: 'unknown', session_id: null, at },
          ...{ source: 'alert', name: 'discovery-full', detail: JSON.stringify({ mac, from }) },
        })
        .onConflict((conflict) => conflict.doNothing())
        .executeTakeFirst();
      if (noted.numInsertedOrUpdatedRows !== 1n) return;
      const data = { subject: 'unknown machines', code: 'discovery.full', message };
      await events.append(tx, 'alert.raised', { key: 'unknown machines', actor: 'boot', data });
    });
  }

  async #noteLife(bearer: Secret): Promise<void> {
    const { store, clock } = this.#deps;
    await store.transaction(async (tx) => {
      const { id } = await this.#bearing(tx, bearer);
      await tx.updateTable('discovered_machines').set({ seen_at: clock.now() }).where('id', '=', id).execute();
    });
  }

  async #bearing(read: Reader, bearer: Secret): Promise<DiscoveredMachineRow> {
    const id = tokenId(bearer) ?? '';
    const row = await read.selectFrom('discovered_machines').selectAll().where('id', '=', id).executeTakeFirst();
    if (row === undefined) throw refused();
    const subject = { id, generation: row.generation, nonce: row.nonce_hash };
    if (!isToken(bearer, this.#deps.tokenKey, 'bearer', subject)) throw refused();
    return row;
  }

  /** The address that it has leased: nobody boots here that has none of ours. */
  #lease(read: Reader, mac: Mac) {
    return read
      .selectFrom('leases')
      .innerJoin('subnets', 'subnets.id', 'leases.subnet_id')
      .select(['leases.address', 'leases.subnet_id', 'subnets.cidr', 'subnets.gateway'])
      .where('leases.mac', '=', mac)
      .where('leases.state', '=', 'bound')
      .where('leases.expires_at', '>', this.#deps.clock.now())
      .orderBy('leases.expires_at', 'desc')
      .limit(1)
      .executeTakeFirst();
  }

  #isOurs(hop: 'script' | 'claim', mac: Mac, token: Secret): boolean {
    return ([0, 1] as const).some((ago) => isToken(token, this.#deps.tokenKey, hop, this.#subject(mac, ago)));
  }

  /** Of the window that we are in, or the one `ago` before it. */
  #subject(mac: Mac, ago: 0 | 1): { id: string; generation: number } {
    return {
      id: `new-${mac.replaceAll(':', '')}`,
      generation: Math.floor(this.#deps.clock.now() / WINDOW) - ago,
    };
  }
}

function isDiscovery(bearer: Secret): boolean {
  return tokenId(bearer)?.startsWith('dsc_') ?? false;
}

function findByMac(read: Reader, mac: Mac): Promise<DiscoveredMachineRow | undefined> {
  return read.selectFrom('discovered_machines').selectAll().where('mac', '=', mac).executeTakeFirst();
}

function refused(): RackstartError {
  return new RackstartError('boot.token-refused', 'This token opens nothing now.');
}

function stale(): RackstartError {
  return new RackstartError('boot.stale', 'There is no order for this machine.');
}
