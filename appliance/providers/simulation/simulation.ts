import { hash } from 'node:crypto';

import type { Clock } from '../../kernel/clock.ts';
import { RackstartError } from '../../kernel/errors.ts';
import { planned, resourcePlan } from '../../saga/resource-plan.ts';
import type { Resource } from '../../saga/resource-plan.ts';
import { done, wait } from '../../saga/step.ts';
import type { StepContext } from '../../saga/step.ts';
import type { SimulatedResourceRow } from '../../store/schema.ts';
import type { Store } from '../../store/store.ts';
import type { Connection, Held, Provider, ProvisionStep, ServerSpec } from '../provider.ts';
import { shapes } from './shapes.ts';
import type { SimulatedKind } from './shapes.ts';
import { SimulatedCluster } from './simulated-cluster.ts';
import type { Call, SimulatedClusterSettings } from './simulated-cluster.ts';

/** What the simulation made, as its cluster would tell it. */
export interface SimulatedRef {
  readonly cluster: string;
  readonly kind: string;
  /** The key that it was made under. */
  readonly name: string;
  readonly id: string;
  /** In the provider's API. */
  readonly url: string;
  readonly address?: string;
}

type Ctx = StepContext<undefined>;

/** Servers that are not there, of clusters that look like others': the whole pipeline without hardware. */
export function simulation(
  deps: { store: Store; clock: Clock },
  clusters: readonly SimulatedClusterSettings[],
): Provider {
  const byName = new Map(clusters.map((settings) => [settings.name, new SimulatedCluster(deps, settings)]));
  const clusterOf = (name: string | null): SimulatedCluster => {
    const cluster = byName.get(name ?? '');
    if (cluster !== undefined) return cluster;
    throw new RackstartError(
      'config.invalid',
      `Servers stand in the simulated cluster ${String(name)}, which is not configured.`,
    );
  };
  return {
    type: 'simulation',
    capabilities: { provesSsh: false, listsHoldings: true, waitsForPeople: false },
    clusters: clusters.map(({ name, region }) => ({ name, region })),

    plan(spec) {
      const cluster = clusterOf(spec.cluster);
      const { resources } = shapes[cluster.settings.shape];
      const of = (step: ProvisionStep) =>
        resourcePlan(
          ...resources
            .filter((kind) => kind.step === step)
            .map((kind) => planned(kind.name, simulated(cluster, kind), spec, { after: kind.after ?? [] })),
        );
      const names = resources.map(({ name }) => name);
      const endpoint = planned('endpoint', answering(cluster), (refs) =>
        names.map((name) => refs.get<SimulatedRef>(name)),
      );
      return {
        allocate: of('allocate'),
        configure: of('configure'),
        activate: of('activate'),
        verify: resourcePlan(endpoint),
      };
    },

    held: (refs) => made(refs).map(({ kind, id }) => ({ resource: kind, id })),

    connection(refs): Connection {
      const all = made(refs);
      const { settings } = clusterOf(all[0]?.cluster ?? null);
      const { username, api, console, main } = shapes[settings.shape];
      const id = all.find(({ kind }) => kind === main)?.id ?? '';
      const addresses = all.flatMap(({ address }) => address ?? []);
      const endpoints = { api: filled(api, settings.name, id), console: filled(console, settings.name, id) };
      return { username, addresses, hostKey: addresses.length === 0 ? null : hostKeyOf(id), endpoints };
    },

    async holdings() {
      const rows = await Promise.all([...byName.values()].map((cluster) => cluster.seeAll()));
      return rows.flat().map(({ cluster, kind, id, name }): Held => ({ cluster, kind, id, madeFor: { key: name } }));
    },

    async remove({ cluster: name, kind, madeFor }, { clock, signal }) {
      if (!('key' in madeFor)) return;
      // The sweep counts no tries: another minute draws another fault.
      await deleteSurely(clusterOf(name), { kind, name: madeFor.key, tries: clock.now(), signal });
    },
  };
}

/** Accepted is not reached: what was asked for is looked for before it is believed, and waited for until it runs. */
function simulated(cluster: SimulatedCluster, of: SimulatedKind): Resource<ServerSpec, SimulatedRef, undefined> {
  const call = (name: string, { tries, signal }: Ctx): Call => ({ kind: of.name, name, tries, signal });
  return {
    async create(key, spec, ctx) {
      const asked = call(key, ctx);
      // In the first run nothing was asked for yet.
      const earlier = ctx.first ? undefined : await cluster.see(asked);
      const seen = earlier ?? (await createSurely(cluster, of, asked, spec));
      return seen.ready_at > ctx.clock.now() ? wait(seen.ready_at) : done(refOf(seen, of));
    },

    async find(key, ctx) {
      const found = await cluster.find(call(key, ctx));
      return found === undefined || found.ready_at > ctx.clock.now() ? undefined : refOf(found, of);
    },

    async delete(key, _ref, ctx) {
      await deleteSurely(cluster, call(key, ctx));
      return done();
    },
  };
}

async function createSurely(
  cluster: SimulatedCluster,
  { id, starts, addressed }: SimulatedKind,
  call: Call,
  { tenantId, hostname, flavor, image }: ServerSpec,
): Promise<SimulatedResourceRow> {
  const [owner = call.name] = call.name.split('/');
  const { cores, memory_mib, disk_gib } = flavor;
  const details = {
    hostname,
    flavor: { cores, memory_mib, disk_gib },
    image: `${image.name}:${image.version}`,
    ...(addressed && { address: addressOf(owner) }),
  };
  await cluster.create(call, { id: id(owner, call.kind), tenantId, details, starts: starts ?? false });
  const seen = await cluster.see(call);
  if (seen === undefined) throw lied(cluster, call, 'created, and is not there');
  return seen;
}

async function deleteSurely(cluster: SimulatedCluster, call: Call): Promise<void> {
  if ((await cluster.see(call)) === undefined) return;
  await cluster.delete(call);
  if ((await cluster.see(call)) !== undefined) throw lied(cluster, call, 'deleted, and is still there');
}

/** Where a real server would be asked by SSH: its cluster is asked whether all of it is there, and answers. Holds nothing. */
function answering(cluster: SimulatedCluster): Resource<readonly SimulatedRef[], { probedAt: number }, undefined> {
  return {
    async create(key, refs, { clock, signal, tries }) {
      await cluster.probe({ kind: 'endpoint', name: key, tries, signal });
      const there = await cluster.seeAll(refs);
      const missing = refs.find(({ kind, name }) => !there.some((row) => row.kind === kind && row.name === name));
      if (missing !== undefined) throw lied(cluster, missing, 'told of, and is not there');
      return done({ probedAt: clock.now() });
    },
    find: () => Promise.resolve(undefined),
    delete: () => Promise.resolve(done()),
  };
}

function lied(
  { settings }: SimulatedCluster,
  { kind, name }: Pick<Call, 'kind' | 'name'>,
  what: string,
): RackstartError {
  return new RackstartError('provider.lied', `${kind} ${name} at ${settings.name} was ${what}.`);
}

function refOf({ cluster, kind, name, id, details }: SimulatedResourceRow, { at }: SimulatedKind): SimulatedRef {
  const { address } = JSON.parse(details) as { address?: string };
  return { cluster, kind, name, id, url: filled(at, cluster, id), ...(address !== undefined && { address }) };
}

function made(refs: Readonly<Record<string, unknown>>): readonly SimulatedRef[] {
  return Object.values(refs).filter((ref) => 'kind' in (ref as object)) as SimulatedRef[];
}

function filled(url: string, cluster: string, id: string): string {
  return url.replaceAll('{cluster}', cluster).replaceAll('{id}', id);
}

/** In the prefix for documentation (RFC 3849), where there are so many that no two servers meet at one. */
function addressOf(owner: string): string {
  const groups = hash('sha256', owner).slice(0, 24).match(/.{4}/g) ?? [];
  return `2001:db8:${groups.map((group) => parseInt(group, 16).toString(16)).join(':')}`;
}

/** Of the right form: an SSH key's wire format (RFC 8709 §4) around 32 bytes that are nobody's key. */
function hostKeyOf(id: string): string {
  const type = Buffer.from('ssh-ed25519');
  const fields = [type, hash('sha256', id, 'buffer')].flatMap((field) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(field.length);
    return [length, field];
  });
  return `ssh-ed25519 ${Buffer.concat(fields).toString('base64')}`;
}
