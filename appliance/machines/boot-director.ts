import { createHash } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import type { BootClient, Mac } from '../../pxe/boot-client.ts';
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
  ReportStage,
  SystemFile,
  WipedDisk,
} from '../../pxe/boot-plan.ts';
import { deriveToken, isToken, tokenId } from '../../pxe/http/token.ts';
import type { EventLog } from '../events/event-log.ts';
import { SECOND } from '../kernel/clock.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Secret } from '../kernel/secret.ts';
import { parseCidr } from '../network/address-range.ts';
import type { BootOrderRow } from '../store/schema.ts';
import type { Reader, Store, Tx } from '../store/store.ts';
import { bindClaimant, claimOrder, consumeOrder, revokeOrders } from './boot-order.ts';
import type { Boot } from './boot-records.ts';
import { agentCredential } from './agent-desk.ts';
import { bootOf, continuationOf, isOpen, noteStale, openBoot, openBootOf, recordBoot } from './boot-records.ts';
import { recordCheck } from './health.ts';
import { readPlan } from './install-plan.ts';
import { recordInspection } from './inspection.ts';
import type { MachineBell } from './machine-bell.ts';
import { imageAhead } from './image-ahead.ts';
import { orderLines } from './order-lines.ts';
import { beginProof } from './proof.ts';
import { checkProtocol } from './protocol.ts';
import { toldTenant } from './told-tenant.ts';
import { recordWiped, sampleSeed } from './wipe-certificates.ts';

export interface BootDirectorDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly bell: MachineBell;
  /** From which every token is derived; 32 bytes. */
  readonly tokenKey: KeyObject;
  readonly clock: Clock;
  readonly ids: Ids;
  /** The server that images are fetched from, `http://10.77.0.1:8080`. */
  readonly imagesUrl: string;
}

/** For which a machine's question for its next order is held open. */
export const PATIENCE: Millis = 25 * SECOND;

/** Decides every hop of a boot from one row: the machine's open boot session and the order behind it. */
export class StoreBootDirector implements BootDirector {
  readonly #deps: BootDirectorDeps;

  constructor(deps: BootDirectorDeps) {
    this.#deps = deps;
  }

  async decide(client: BootClient): Promise<BootDecision> {
    const { store, tokenKey, clock } = this.#deps;
    // One look at all of it: asked with every packet of a booting machine.
    const boot = await store.read
      .selectFrom('machine_nics')
      .innerJoin('machines', 'machines.id', 'machine_nics.machine_id')
      .leftJoin('boot_sessions', (join) =>
        join.onRef('boot_sessions.machine_id', '=', 'machines.id').on('boot_sessions.ended_at', 'is', null),
      )
      .leftJoin('boot_orders', 'boot_orders.id', 'boot_sessions.order_id')
      .select(['machines.smbios_uuid', 'machine_nics.switch_port', 'boot_orders.verb', 'boot_orders.state'])
      .select(['boot_sessions.id', 'boot_sessions.generation', 'boot_sessions.window_until'])
      .where('machine_nics.mac', '=', client.mac)
      .executeTakeFirst();
    if (boot === undefined) return { verb: 'ignore', why: 'unknown MAC', stranger: true };
    const { smbios_uuid: known, switch_port: port, verb, id, generation, window_until: until } = boot;
    const stranger = client.uuid !== undefined && known !== null && client.uuid.toLowerCase() !== known;
    if (stranger) return mismatch('another SMBIOS UUID than the one inspected');
    if (client.port !== undefined && port !== null && client.port !== port) {
      return mismatch(`the relay names the switch port ${client.port}, the inventory ${port}`);
    }
    if (id === null || generation === null || verb === null || boot.state !== 'pending') {
      return { verb: 'local-disk', why: 'no order' };
    }
    if (until === null || clock.now() >= until) return { verb: 'local-disk', why: 'the boot window has closed' };
    if (verb === 'local-disk') return { verb, why: 'ordered' };
    return { verb, sessionId: id, scriptToken: deriveToken(tokenKey, 'script', { id, generation }) };
  }

  async script(mac: Mac, token: Secret): Promise<RamdiskBoot> {
    const { store, tokenKey, clock } = this.#deps;
    const boot = await openBootOf(store.read, mac);
    const isOurs = boot?.order.state === 'pending' && isToken(token, tokenKey, 'script', boot);
    if (!isOurs || !isOpen(boot, clock.now())) throw refused();
    const reservation = await store.read
      .selectFrom('addresses')
      .innerJoin('subnets', 'subnets.id', 'addresses.subnet_id')
      .select(['addresses.address', 'subnets.cidr', 'subnets.gateway'])
      .where('holder_kind', '=', 'nic')
      .where('holder_id', '=', mac)
      .executeTakeFirst();
    if (reservation === undefined) throw new RackstartError('internal', `NIC ${mac} has no reservation.`);
    const recorded = await store.transaction((tx) => recordBoot(tx, boot.id, { type: 'script' }, clock.now()));
    if (recorded === 'over') throw refused();
    const { address, cidr, gateway } = reservation;
    return {
      sessionId: boot.id,
      claimToken: deriveToken(tokenKey, 'claim', boot),
      address: `${address}/${String(parseCidr(cidr).prefixLength)}`,
      ...(gateway === null ? {} : { gateway }),
    };
  }

  async claim(claim: Claim): Promise<ClaimGrant> {
    const { store, clock } = this.#deps;
    checkProtocol(claim.protocol);
    const nonceHash = createHash('sha256').update(claim.nonce).digest('hex');
    // What the claim leads to is one transaction; a refusal that cuts the boot off must commit too, and is thrown after it.
    const outcome = await store.transaction(async (tx): Promise<Boot | RackstartError> => {
      const boot = await this.#claimed(tx, claim);
      const at = clock.now();
      const claimant = { nonceHash, ramdisk: claim.ramdisk ?? null };
      if (await bindClaimant(tx, boot.id, claimant, at)) {
        if (!(await claimOrder(tx, boot.order, at))) throw stale();
        await recordBoot(tx, boot.id, { type: boot.order.verb === 'wait' ? 'claim-to-wait' : 'claim' }, at);
        await this.#deps.events.append(tx, 'boot.claimed', { ...(await about(tx, boot)), data: of(boot) });
        return { ...boot, nonce_hash: nonceHash };
      }
      // Who has it? Read again: another claim may have been committed since.
      const bound = await openBoot(tx, boot.machine_id);
      if (bound?.id !== boot.id) throw refused();
      return bound.nonce_hash === nonceHash ? bound : this.#cutOff(tx, bound, claim);
    });
    if (outcome instanceof RackstartError) throw outcome;
    return { sessionId: outcome.id, ...(await this.#grant(outcome, nonceHash)) };
  }

  async report(bearer: Secret, report: Report): Promise<void> {
    const { store, clock, events } = this.#deps;
    // A stale report is refused, but what was noted of it must commit.
    const isStale = await store.transaction(async (tx): Promise<boolean> => {
      const boot = await this.#bootOf(tx, bearer);
      await this.#noteUse(tx, boot);
      const { stage, status, facts } = report;
      const recorded =
        report.generation === boot.generation
          ? await recordBoot(tx, boot.id, { type: 'report', stage, status, facts }, clock.now())
          : 'over';
      if (recorded === 'over') await noteStale(tx, boot, report, clock.now());
      if (recorded === 'over' || recorded === 'unexpected' || status === 'progress') return recorded === 'over';
      const isLast = status === 'done' && stage === lastStages[boot.order.verb];
      if (isLast) await consumeOrder(tx, boot.order.id, clock.now());
      if (stage === 'inject' && status === 'done') await keepHostKey(tx, boot, facts['host_key']);
      const to = await about(tx, boot);
      await events.append(tx, 'boot.stage', { ...to, data: { ...of(boot), stage, status, facts } });
      // Told again by a ramdisk that did not hear our answer, it is the same one.
      if (stage === 'kexec' && status === 'started' && recorded === 'advanced') {
        await beginProof(tx, boot, clock.now());
        await events.append(tx, 'boot.handoff', { ...to, data: of(boot) });
      }
      if (status === 'failed' || isLast) {
        await events.append(tx, 'boot.finished', { ...to, data: { ...of(boot), outcome: status } });
      }
      return false;
    });
    if (isStale) throw stale();
  }

  async log(bearer: Secret, text: string): Promise<void> {
    const { store, clock } = this.#deps;
    await store.transaction(async (tx) => {
      const boot = await this.#bearing(tx, bearer);
      await this.#noteUse(tx, boot);
      const entry = { machine_id: boot.machine_id, session_id: boot.id, at: clock.now(), source: 'ramdisk' } as const;
      await tx
        .insertInto('timeline')
        .values({ ...entry, id: `log_${boot.id}`, name: 'log', detail: JSON.stringify({ text }) })
        .onConflict((conflict) => conflict.column('id').doUpdateSet({ detail: JSON.stringify({ text }) }))
        .execute();
    });
  }

  async inspection(bearer: Secret, inspection: Inspection): Promise<void> {
    await this.#told(bearer, 'inspection', (tx, { machine_id: machineId }, at) =>
      recordInspection(tx, this.#deps, { machineId, inspection, at }),
    );
  }

  async check(bearer: Secret, check: HealthCheck): Promise<void> {
    await this.#told(bearer, 'checked', (tx, { machine_id: machineId }, at) =>
      recordCheck(tx, this.#deps, { machineId, check, at }),
    );
  }

  async wiped(bearer: Secret, disk: WipedDisk): Promise<void> {
    await this.#told(bearer, 'wiped', (tx, { machine_id: machineId, id: sessionId }, at) =>
      recordWiped(tx, this.#deps, { machineId, sessionId, disk, at }),
    );
  }

  /** Writes down what the ramdisk found, in a boot that expects it now. */
  async #told(
    bearer: Secret,
    type: 'inspection' | 'checked' | 'wiped',
    record: (tx: Tx, boot: Boot, at: Millis) => Promise<void>,
  ): Promise<void> {
    const { store, clock } = this.#deps;
    await store.transaction(async (tx) => {
      const boot = await this.#bearing(tx, bearer);
      if (!tellers[type].includes(boot.order.verb)) throw stale();
      const recorded = await recordBoot(tx, boot.id, { type }, clock.now());
      if (recorded === 'over' || recorded === 'unexpected') throw stale();
      await record(tx, boot, clock.now());
    });
  }

  async files(bearer: Secret): Promise<readonly SystemFile[]> {
    const { store, tokenKey } = this.#deps;
    const boot = await this.#bearing(store.read, bearer);
    if (boot.state === 'taken') await store.transaction((tx) => this.#noteUse(tx, boot));
    const { order, generation } = boot;
    if (order.plan_digest === null || order.attempt_id === null) throw stale();
    const { files } = await readPlan(store.read, order.plan_digest);
    const credential = `Authorization: Bearer ${agentCredential(tokenKey, order.attempt_id, generation).reveal()}\n`;
    return [...files, { path: 'etc/rackstart/agent.header', mode: 0o600, content: credential }];
  }

  async next(bearer: Secret, generation: number, signal: AbortSignal): Promise<NextOrder | undefined> {
    const { store, clock, bell } = this.#deps;
    const until = clock.now() + PATIENCE;
    const waiting = await this.#bootOf(store.read, bearer);
    const listening = await bell.listen(waiting.machine_id);
    try {
      if (waiting.order.verb === 'wait') await this.#notePoll(waiting);
      for (;;) {
        // Looked at after listening: what is ordered in between is not slept through.
        const told = listening.next();
        const ordered = await this.#orderedAfter(bearer, generation);
        if (ordered !== undefined) return ordered;
        if (clock.now() >= until) return undefined;
        try {
          await clock.sleepUntil(until, AbortSignal.any([signal, told]));
        } catch (error) {
          if (error !== told.reason) throw error;
        }
      }
    } finally {
      listening.end();
    }
  }

  /** A sign of life; the first one parks the machine, and then the token that it claimed with buys nothing any more. */
  async #notePoll(boot: Boot): Promise<void> {
    const { store, clock, events } = this.#deps;
    await store.transaction(async (tx) => {
      const at = clock.now();
      if ((await recordBoot(tx, boot.id, { type: 'poll' }, at)) !== 'advanced') return;
      await tx.updateTable('boot_sessions').set({ window_until: at }).where('id', '=', boot.id).execute();
      await events.append(tx, 'boot.parked', { ...(await about(tx, boot)), data: of(boot) });
    });
  }

  /** Undefined while there is nothing new. Errors: `boot.stale` when this boot is over, and nothing was ordered after it. */
  async #orderedAfter(bearer: Secret, generation: number): Promise<NextOrder | undefined> {
    const { store, clock, events } = this.#deps;
    const waiting = await this.#bootOf(store.read, bearer);
    if (waiting.generation !== generation) throw stale();
    if (waiting.ended_at === null) return undefined;
    const { nonce_hash: nonceHash, ramdisk } = waiting;
    const taken = await store.transaction(async (tx): Promise<Boot | undefined> => {
      const ordered = await continuationOf(tx, waiting.id);
      if (ordered === undefined || nonceHash === null) return undefined;
      const at = clock.now();
      if (await bindClaimant(tx, ordered.id, { nonceHash, ramdisk }, at)) {
        if (!(await claimOrder(tx, ordered.order, at))) throw stale();
        await recordBoot(tx, ordered.id, { type: 'taken' }, at);
        await events.append(tx, 'boot.claimed', { ...(await about(tx, ordered)), data: of(ordered) });
        return ordered;
      }
      // Taken before: the answer may have been lost, until its bearer has been used.
      const again = await bootOf(tx, ordered.id);
      return again?.state === 'taken' && again.ended_at === null ? again : undefined;
    });
    if (taken === undefined || nonceHash === null) throw stale();
    return this.#grant(taken, nonceHash);
  }

  /** The bearer that a parked machine was given has arrived: the one it waited with opens nothing from here on. */
  async #noteUse(tx: Tx, boot: Boot): Promise<void> {
    if (boot.state === 'taken') await recordBoot(tx, boot.id, { type: 'bearer-used' }, this.#deps.clock.now());
  }

  async #grant(boot: Boot, nonce: string): Promise<NextOrder> {
    const { store, tokenKey, imagesUrl } = this.#deps;
    const { plan_digest } = boot.order;
    const plan = plan_digest === null ? undefined : await readPlan(store.read, plan_digest);
    const ahead = await imageAhead(store.read, boot.order);
    return {
      bearer: deriveToken(tokenKey, 'bearer', { ...boot, nonce }),
      order: orderLines(boot, { plan, ahead, imagesUrl, wipeSeed: sampleSeed(tokenKey, boot.id) }),
    };
  }

  async #claimed(tx: Tx, claim: Claim): Promise<Boot> {
    const { tokenKey, clock } = this.#deps;
    const boot = await openBootOf(tx, claim.mac);
    if (!boot || !isToken(claim.token, tokenKey, 'claim', boot) || !isOpen(boot, clock.now())) throw refused();
    const { smbios_uuid: known } = await tx
      .selectFrom('machines')
      .select('smbios_uuid')
      .where('id', '=', boot.machine_id)
      .executeTakeFirstOrThrow();
    if (known !== null && known !== claim.uuid.toLowerCase()) {
      throw new RackstartError('boot.mismatch', 'The machine that claims is not the one that was ordered to boot.');
    }
    return boot;
  }

  async #cutOff(tx: Tx, boot: Boot, { from }: Claim): Promise<RackstartError> {
    const { clock, events } = this.#deps;
    const message = `The boot of machine ${boot.machine_id} was claimed a second time, from ${from}.`;
    await revokeOrders(tx, boot.machine_id, 'cut-off', clock.now());
    // Who claims from where is the operators' business.
    const to = { key: boot.machine_id, actor: 'ramdisk' };
    await events.append(tx, 'boot.cut-off', { ...to, data: { ...of(boot), reason: message } });
    const data = { subject: boot.machine_id, code: 'boot.claim-conflict', message };
    await events.append(tx, 'alert.raised', { ...to, data });
    return new RackstartError('boot.claim-conflict', message);
  }

  async #bearing(read: Reader, bearer: Secret): Promise<Boot> {
    const boot = await this.#bootOf(read, bearer);
    if (boot.ended_at !== null) throw stale();
    return boot;
  }

  /** The boot that the bearer was given for, though it may be over. */
  async #bootOf(read: Reader, bearer: Secret): Promise<Boot> {
    const { tokenKey } = this.#deps;
    const sessionId = tokenId(bearer);
    const boot = sessionId === undefined ? undefined : await bootOf(read, sessionId);
    if (!boot?.nonce_hash || !isToken(bearer, tokenKey, 'bearer', { ...boot, nonce: boot.nonce_hash })) throw refused();
    return boot;
  }
}

/** The stage with which the ramdisk has done what it was ordered to; an install ends elsewhere. */
const lastStages: Readonly<Partial<Record<BootOrderRow['verb'], ReportStage>>> = { inspect: 'check', wipe: 'wipe' };

/** Whose orders have what told. */
const tellers: Readonly<Record<'inspection' | 'checked' | 'wiped', readonly BootOrderRow['verb'][]>> = {
  inspection: ['inspect', 'wait'],
  checked: ['inspect', 'wait'],
  wiped: ['wipe'],
};

function mismatch(why: string): BootDecision {
  return { verb: 'ignore', why, code: 'boot.mismatch' };
}

// Made by our own ramdisk in the booted machine: the one key by which the server is known from here on.
async function keepHostKey(tx: Tx, { order }: Boot, hostKey: string | undefined): Promise<void> {
  if (order.attempt_id === null) return;
  if (hostKey === undefined || !/^ssh-ed25519 [A-Za-z0-9+/]{68}$/.test(hostKey)) {
    throw new RackstartError('request.invalid', 'The report names no ed25519 host key.', {
      fields: [{ field: '/host_key', message: 'must be `ssh-ed25519` and 68 base64 characters' }],
    });
  }
  await tx.updateTable('agents').set({ host_key: hostKey }).where('attempt_id', '=', order.attempt_id).execute();
}

function refused(): RackstartError {
  return new RackstartError('boot.token-refused', 'This token opens nothing now.');
}

function stale(): RackstartError {
  return new RackstartError('boot.stale', 'This boot was ended or replaced.');
}

function of(boot: Boot) {
  const { machine_id: machineId, id: sessionId, generation } = boot;
  const attemptId = boot.order.attempt_id;
  return { machineId, sessionId, generation, ...(attemptId === null ? {} : { attemptId }) };
}

async function about(tx: Tx, { machine_id: key, order }: Boot) {
  return { key, tenantId: await toldTenant(tx, order.attempt_id), actor: 'ramdisk' };
}
