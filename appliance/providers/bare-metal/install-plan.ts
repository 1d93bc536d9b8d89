import type { AgentFile } from '../../../images/agent/files.ts';
import { agentFiles } from '../../../images/agent/files.ts';
import type { SystemFile } from '../../../pxe/boot-plan.ts';
import type { SystemInterface } from '../../../templates/context.ts';
import type { SystemFiles } from '../../../templates/system-files.ts';
import type { DiskRule } from '../../../scheduler/disk-plan.ts';
import { RackstartError } from '../../kernel/errors.ts';
import { diskPlanOf, layoutOf, requirePlan } from '../../machines/disk-layout.ts';
import type { InstallPlan } from '../../machines/install-plan.ts';
import { freezePlan } from '../../machines/install-plan.ts';
import type { Resource } from '../../saga/resource-plan.ts';
import { done } from '../../saga/step.ts';
import type { Reader } from '../../store/store.ts';
import { parseCidr } from '../../network/address-range.ts';
import type { ServerSpec } from '../provider.ts';
import type { Holding } from './holding.ts';

export interface InstallPlanDeps {
  readonly systemFiles: SystemFiles;
  /** Where servers find the appliance, and the CA by which they know it. */
  readonly agentUrl: string;
  readonly caPem: string;
}

export interface FrozenPlan {
  readonly digest: string;
}

/** Rendered once, on what inspection saw; `boot.disk-rule` when the machine's disks do not suit the order. It stays: the record of what was installed. */
export function frozenPlan(
  deps: InstallPlanDeps,
): Resource<{ spec: ServerSpec; holding: Holding }, FrozenPlan, undefined> {
  return {
    async create(_key, { spec, holding }, ctx) {
      const plan = await renderPlan(ctx.read, spec, holding, deps);
      const digest = await ctx.transaction((tx) => freezePlan(tx, plan, spec.tenantId, ctx.clock.now()));
      return done({ digest });
    },
    find: () => Promise.resolve(undefined),
    delete: () => Promise.resolve(done()),
  };
}

async function renderPlan(
  read: Reader,
  spec: ServerSpec,
  holding: Holding,
  { systemFiles, agentUrl, caPem }: InstallPlanDeps,
): Promise<InstallPlan> {
  const { machineId } = holding;
  const machine = await read.selectFrom('machines').selectAll().where('id', '=', machineId).executeTakeFirstOrThrow();
  const { image, flavor, requestId, hostname } = spec;
  const layout = layoutOf(flavor);
  requirePlan(machine.name, await diskPlanOf(read, machine, flavor, { imageBytes: image.raw_bytes }));
  const rendered = systemFiles({
    hostname,
    instanceId: spec.attemptId,
    interfaces: await interfaces(read, spec, holding),
    sshKeys: spec.sshKeys,
    userData: spec.userData ?? null,
    agent: { url: agentUrl, server: requestId },
    caPem,
  });
  return {
    image: {
      sha256: image.sha256,
      mapBytes: image.map_bytes,
      rawBytes: image.raw_bytes,
      rootPartition: image.root_partition,
      rootFs: image.root_fs,
      kernelArgs: image.kernel_args,
    },
    disk: JSON.parse(machine.disk_rule) as DiskRule,
    ...(flavor.layout == null ? {} : { layout }),
    files: [...rendered, ...agentFiles().map(asText)],
  };
}

// A plan is JSON: everything in it is text.
function asText({ content, ...file }: AgentFile): SystemFile {
  return content === undefined ? file : { ...file, content: content.toString() };
}

/** The server's addresses go to the NIC it boots from, or to the other one; then the first keeps its own, without a gateway. */
async function interfaces(read: Reader, spec: ServerSpec, holding: Holding): Promise<SystemInterface[]> {
  const nics = await read
    .selectFrom('machine_nics')
    .leftJoin('addresses', (join) =>
      join.onRef('addresses.holder_id', '=', 'machine_nics.mac').on('addresses.holder_kind', '=', 'nic'),
    )
    .leftJoin('subnets', 'subnets.id', 'addresses.subnet_id')
    .select(['machine_nics.mac', 'addresses.address', 'subnets.cidr'])
    .where('machine_nics.machine_id', '=', holding.machineId)
    .orderBy('machine_nics.mac')
    .execute();
  const boots = nics.find(({ address }) => address !== null);
  const separate = spec.flavor.nics === 'separate';
  const faces = separate ? nics.find(({ address }) => address === null) : boots;
  if (boots?.address == null || boots.cidr === null || faces === undefined) {
    throw new RackstartError(
      'internal',
      `Machine ${holding.machineId} lacks the NICs that flavor ${spec.flavor.name} needs.`,
    );
  }
  const customer: SystemInterface = {
    mac: faces.mac,
    role: separate ? 'customer' : 'both',
    addresses: holding.addresses.map(({ address, prefixLength }) => `${address}/${String(prefixLength)}`),
    gateways: holding.addresses.flatMap(({ gateway }) => (gateway === null ? [] : [gateway])),
    dns: [...new Set(holding.addresses.flatMap(({ dns }) => dns))],
  };
  if (!separate) return [customer];
  const { prefixLength } = parseCidr(boots.cidr);
  const own = `${boots.address}/${String(prefixLength)}`;
  return [{ mac: boots.mac, role: 'provisioning', addresses: [own], gateways: [], dns: [] }, customer];
}
