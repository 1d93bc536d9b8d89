import { Secret } from '../../appliance/kernel/secret.ts';
import { agentCredential } from '../../appliance/machines/agent-desk.ts';
import { placeOrder } from '../../appliance/machines/boot-order.ts';
import { freezePlan } from '../../appliance/machines/install-plan.ts';
import type { Secrets } from './boot-inputs.ts';
import type { Dice } from './dice.ts';
import { DAY } from './site.ts';
import type { Site, SiteMachine } from './site.ts';

/** A machine whose every secret is known to whoever attacks, and what it knows now. */
export interface OpenMachine {
  readonly machine: SiteMachine;
  readonly secrets: Secrets;
  /** A new order, and so new tokens; claimed already, now and then, so that what comes after a claim is reached. */
  renew(dice: Dice): Promise<void>;
}

const IMAGE = 'ab'.repeat(32);

/** A machine that is inspected again and again. */
export async function inspected(site: Site, machine: SiteMachine): Promise<OpenMachine> {
  return openMachine(site, machine, () => site.order(machine), 'srv_none');
}

/** A machine that is installed for a tenant, with an agent: one attempt, and any number of orders. */
export async function installed(site: Site, machine: SiteMachine): Promise<OpenMachine> {
  const { store, ids, clock } = site;
  const [tenant, attempt, request] = ['ten_1', `att_${machine.id}`, `req_${machine.id}`];
  const at = clock.now();
  const digest = await store.transaction(async (tx) => {
    await tx.insertInto('tenants').values({ id: tenant, name: 'acme', created_at: at }).execute();
    const shape = { cores: 1, memory_mib: 1024, disk_gib: 1 };
    await tx
      .insertInto('flavors')
      .values({ id: 'flv_1', name: 'small', ...shape, nics: 'same' })
      .execute();
    const image = {
      sha256: IMAGE,
      source_sha256: IMAGE,
      bytes: 8,
      raw_bytes: 1_000,
      map_bytes: 300,
      root_partition: 1,
    };
    const kind = { root_fs: 'ext4', kernel_args: 'quiet', created_at: at } as const;
    await tx
      .insertInto('images')
      .values({ id: 'img_1', name: 'debian', version: '12', ...image, ...kind })
      .execute();
    const order = { hostname: 'web-1', region_id: 'reg_1', flavor_id: 'flv_1', image_id: 'img_1', params: '{}' };
    const none = { connection: null, failure: null, idempotency_key: null, idempotency_digest: null };
    const times = { created_at: at, updated_at: at, completed_at: null, ended_at: null };
    const origin = { tenant_id: tenant, provider: 'bare-metal', created_by: 'lab' };
    const nobody = { project_id: null, user_id: null, progress_at: null, ready_at: at, dispatched_at: at };
    await tx
      .insertInto('requests')
      .values({ id: request, ...origin, ...nobody, ...order, ...none, ...times, state: 'activating' })
      .execute();
    const whose = { request_id: request, tenant_id: tenant, machine_id: machine.id };
    const running = { number: 1, saga_id: 'saga_1', path: 'cold', outcome: 'running', failure: null } as const;
    await tx
      .insertInto('attempts')
      .values({ id: attempt, ...whose, ...running, created_at: at, ended_at: null })
      .execute();
    const silent = { protocol: null, host_key: null, phoned_home_at: null, heartbeat_at: null, metrics: null };
    await tx
      .insertInto('agents')
      .values({ attempt_id: attempt, ...whose, ...silent, created_at: at, revoked_at: null })
      .execute();
    const written = { rootPartition: 1, rootFs: 'ext4', kernelArgs: 'quiet' } as const;
    const sizes = { sha256: IMAGE, mapBytes: 300, rawBytes: 1_000 };
    const files = [{ path: 'etc/hostname', content: 'web-1\n' }];
    return freezePlan(tx, { image: { ...sizes, ...written }, disk: { minBytes: 0 }, files }, tenant, at);
  });
  const order = () =>
    store.transaction((tx) => {
      const now = clock.now();
      const install = {
        machineId: machine.id,
        verb: 'install',
        planDigest: digest,
        attemptId: attempt,
        tenantId: tenant,
      } as const;
      return placeOrder(tx, ids, install, { at: now, windowUntil: now + 365 * DAY });
    });
  return openMachine(site, machine, order, request, attempt);
}

async function openMachine(
  { director, store, tokenKey }: Site,
  machine: SiteMachine,
  order: () => Promise<{ generation: number }>,
  server: string,
  attempt?: string,
): Promise<OpenMachine> {
  const { mac, id } = machine;
  const uuid = `12345678-9abc-4ef0-8122-${mac.replaceAll(':', '')}`;
  let secrets: Secrets = { SCRIPTTOKEN: '', CLAIMTOKEN: '', BEARER: '', SERVER: server, mac, uuid, generation: 0 };
  return {
    machine,
    get secrets() {
      return secrets;
    },
    async renew(dice) {
      const { generation } = await order();
      // Whatever an inspection said: this boot is of the machine that was known before.
      await store.transaction((tx) =>
        tx.updateTable('machines').set({ smbios_uuid: uuid }).where('id', '=', id).execute(),
      );
      const decision = await director.decide({ mac, kind: 'ipxe', architecture: 7, uuid });
      if (!('scriptToken' in decision)) throw new Error(`no boot for ${mac}: ${decision.why}`);
      const { claimToken } = await director.script(mac, decision.scriptToken);
      const nonce = dice.percent(50) ? '0123456789abcdef0123456789abcdef' : dice.bytes(16).toString('hex');
      const claim = { protocol: 1, token: claimToken, nonce, mac, uuid, from: '10.77.0.33' };
      // Agents show their own credential; a boot's bearer would open nothing there.
      const isAgent = attempt !== undefined && dice.percent(25);
      const bearer = isAgent
        ? agentCredential(tokenKey, attempt, generation)
        : dice.percent(70)
          ? (await director.claim(claim)).bearer
          : new Secret('unclaimed');
      secrets = {
        ...{ SCRIPTTOKEN: decision.scriptToken.reveal(), CLAIMTOKEN: claimToken.reveal(), BEARER: bearer.reveal() },
        ...{ SERVER: server, mac, uuid, generation },
      };
    },
  };
}
