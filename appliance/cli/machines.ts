import type { Command } from 'commander';
import { Argument, InvalidArgumentError, Option } from 'commander';

import { integer } from './arguments.ts';
import type { ApiClient } from './client.ts';
import type { CliContext } from './context.ts';
import { diskPlanCommand } from './disk-plan.ts';
import { UsageError } from './failure.ts';
import { follow } from './follow.ts';
import type { Dimm, Disk, Firmware } from './hardware.ts';
import { dimmTable, diskTable, firmwareText } from './hardware.ts';
import type { Issue } from './machine-issues.ts';
import { issueCommands, issueText } from './machine-issues.ts';
import { Progress } from './progress.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf, readText } from './remote.ts';
import { facts, table } from './text.ts';
import { wipesCommand } from './wipes.ts';

interface Machine extends Firmware {
  readonly id: string;
  readonly name: string;
  readonly rack: string;
  readonly state: string;
  readonly diskState: string;
  readonly quarantineReason: string | null;
  readonly vendor: string | null;
  readonly model: string | null;
  readonly serial: string | null;
  readonly uuid: string | null;
  readonly cores: number | null;
  readonly memoryMib: number | null;
  readonly parked: Parked | null;
  readonly bmc: { readonly kind: string; readonly address: string; readonly port: number };
  readonly nics: readonly {
    mac: string;
    name: string | null;
    role: string;
    address: string | null;
    switchPort: string | null;
    link: string | null;
    speedMbps: number | null;
    neighbour: string | null;
  }[];
  readonly disks: readonly Disk[];
  readonly dimms: readonly Dimm[];
  readonly openIssues: readonly Issue[];
}

interface Parked {
  readonly since: string;
  readonly seenAt: string;
  readonly ramdisk: string | null;
  readonly image: string | null;
}

interface Nic {
  readonly mac: string;
  readonly role: string;
}

interface AddOptions extends RemoteOptions {
  readonly name: string;
  readonly rack: string;
  readonly bmcAddress: string;
  readonly bmcPort?: number;
  readonly bmcUser: string;
  readonly bmcPasswordFile: string;
  readonly cipherSuite?: string;
  readonly nic: readonly Nic[];
  readonly wait?: boolean;
}

export function machineCommands(program: Command, context: CliContext): void {
  const group = program.command('machine').description('the fleet; for operators');
  addCommand(group, context);
  readCommands(group, context);
  diskPlanCommand(group, context);
  nicCommand(group, context);
  powerCommand(group, context);
  issueCommands(group, context);
  wipesCommand(group, context);
  careCommand(group, context, 'inspect', "read a machine's hardware again");
  careCommand(group, context, 'warm', 'power a machine on and have it wait in the ramdisk for its next server');
  careCommand(group, context, 'drain', 'take a machine that waits out of the ready pool, and switch it off');
  careCommand(
    group,
    context,
    'readmit',
    'lift a quarantine: a dirty disk is wiped, then the machine is inspected and checked',
  );
}

function addCommand(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('add')
      .description('enrol a machine and inspect it')
      .requiredOption('--name <name>')
      .requiredOption('--rack <name>', 'where it stands')
      .requiredOption('--bmc-address <address>')
      .option('--bmc-port <port>', 'default: 623', integer)
      .requiredOption('--bmc-user <name>')
      .requiredOption('--bmc-password-file <file>', 'file that holds nothing but the password')
      .addOption(new Option('--cipher-suite <number>', 'of IPMI; default: 17').choices(['3', '17']))
      .requiredOption('--nic <mac=role...>', 'role: provisioning, customer or both; the first boots by PXE', nic)
      .option('--wait', 'until it is inspected'),
  ).action(async (options: AddOptions) => {
    const { api, answer } = await connect(context, options);
    const { name, bmcAddress, bmcPort, bmcUser, bmcPasswordFile, cipherSuite, nic: nics } = options;
    const password = (await readText(bmcPasswordFile, 'The password file')).replace(/\r?\n$/, '');
    const rack = await idOf(api, 'racks', options.rack);
    const suite = cipherSuite === undefined ? undefined : Number(cipherSuite);
    const bmc = { address: bmcAddress, port: bmcPort, username: bmcUser, password, cipherSuite: suite };
    const machine = (await api.post('/machines', { name, rack, bmc, nics })) as Machine;
    const known = options.wait === true ? await settled(context, api, machine.id) : machine;
    answer(known, sheet(known));
  });
}

function readCommands(group: Command, context: CliContext): void {
  asksApi(group.command('list').description('list machines')).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const list = (await api.get('/machines')) as { machines: Machine[] };
    const rows = list.machines.map(({ name, state, firmware, cores, memoryMib, bmc, quarantineReason, id }) => {
      return [name, state, firmware, cores, memoryMib, `${bmc.address}:${String(bmc.port)}`, id, quarantineReason];
    });
    answer(list, table(['name', 'state', 'firmware', 'cores', 'memory MiB', 'BMC', 'id', 'quarantined for'], rows));
  });
  asksApi(group.command('show <machine>').description('show a machine, by its name or id')).action(
    async (nameOrId: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const machine = (await api.get(`/machines/${await idOf(api, 'machines', nameOrId)}`)) as Machine;
      answer(machine, sheet(machine));
    },
  );
}

function nicCommand(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('nic <machine> <mac>')
      .description('say where a NIC is plugged in: boots that a trusted DHCP relay tells from another port are refused')
      .option('--switch-port <port>', 'as the timeline tells it, such as sw-7/eth3')
      .option('--any-switch-port', 'forget where it is plugged in'),
  ).action(
    async (
      nameOrId: string,
      mac: string,
      options: RemoteOptions & { switchPort?: string; anySwitchPort?: boolean },
    ) => {
      const { switchPort, anySwitchPort = false } = options;
      if ((switchPort === undefined) !== anySwitchPort) {
        throw new UsageError('Say where it is plugged in.', 'Either --switch-port PORT or --any-switch-port.');
      }
      const { api, answer } = await connect(context, options);
      const path = `/machines/${await idOf(api, 'machines', nameOrId)}/nics/${encodeURIComponent(mac)}`;
      const machine = (await api.patch(path, { switchPort: switchPort ?? null })) as Machine;
      answer(machine, sheet(machine));
    },
  );
}

function powerCommand(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('power <machine>')
      .description('read the power state from the BMC, or change it')
      .addArgument(new Argument('[want]').choices(['on', 'off', 'reset'])),
  ).action(async (nameOrId: string, want: string | undefined, options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const path = `/machines/${await idOf(api, 'machines', nameOrId)}/power`;
    const read = (await (want === undefined ? api.get(path) : api.post(path, { want }))) as { power: string };
    answer(read, `${read.power}\n`);
  });
}

function careCommand(
  group: Command,
  context: CliContext,
  verb: 'inspect' | 'warm' | 'drain' | 'readmit',
  description: string,
): void {
  asksApi(group.command(`${verb} <machine>`).description(description).option('--wait', 'until that has ended')).action(
    async (nameOrId: string, options: RemoteOptions & { wait?: boolean }) => {
      const { api, answer } = await connect(context, options);
      const machine = (await api.act(`/machines/${await idOf(api, 'machines', nameOrId)}/${verb}`)) as Machine;
      const known = options.wait === true ? await settled(context, api, machine.id) : machine;
      answer(known, sheet(known));
    },
  );
}

/** The machine once nothing is done to it any more. Errors: `UsageError` with the reason when it was quarantined. */
async function settled(context: CliContext, api: ApiClient, id: string): Promise<Machine> {
  const progress = new Progress(context);
  let last = '';
  try {
    return await follow(context, api, async () => {
      const machine = (await api.get(`/machines/${id}`)) as Machine;
      if (machine.state !== last) progress.line(`${machine.name}: ${machine.state}`);
      last = machine.state;
      if (machine.state === 'quarantined') {
        throw new UsageError(
          `Machine ${machine.name} is quarantined: ${machine.quarantineReason ?? 'no reason is known'}`,
          `Repair that, then: rackstart machine readmit ${machine.name}`,
        );
      }
      progress.live(`${machine.name}: ${machine.state} ...`);
      return ['enrolled', 'inspecting', 'warming', 'draining', 'releasing'].includes(machine.state)
        ? undefined
        : machine;
    });
  } finally {
    progress.end();
  }
}

function sheet(machine: Machine): string {
  const { nics, disks, dimms, bmc, memoryMib, openIssues, parked, ...rest } = machine;
  const lines = facts({
    name: rest.name,
    id: rest.id,
    state: rest.state,
    'quarantined for': rest.quarantineReason,
    waits: parked === null ? null : waiting(parked),
    rack: rest.rack,
    hardware: [rest.vendor, rest.model, rest.serial].filter((part) => part !== null).join(' '),
    uuid: rest.uuid,
    firmware: firmwareText(rest),
    cores: rest.cores,
    memory: memoryMib === null ? null : `${String(memoryMib)} MiB`,
    BMC: `${bmc.kind} ${bmc.address}:${String(bmc.port)}`,
    disk: rest.diskState,
  });
  const nicRows = nics.map(({ mac, name, role, address, switchPort, link, speedMbps, neighbour }) => {
    return [mac, name, role, address, switchPort, link, speedMbps, neighbour];
  });
  return [
    lines,
    table(['NIC', 'name', 'role', 'address', 'switch port', 'link', 'Mbit/s', 'neighbour'], nicRows),
    ...(disks.length === 0 ? [] : [diskTable(disks)]),
    ...(dimms.length === 0 ? [] : [dimmTable(dimms)]),
    ...(openIssues.length === 0 ? [] : [issueText(openIssues)]),
  ].join('\n');
}

function waiting({ since, seenAt, ramdisk, image }: Parked): string {
  const ahead = image === null ? '' : `, to write ${image} ahead`;
  return `since ${since}, asked ${seenAt}, ramdisk ${ramdisk ?? '?'}${ahead}`;
}

function nic(text: string, before: readonly Nic[] = []): readonly Nic[] {
  const [mac, role, ...rest] = text.split('=');
  if (!mac || !role || rest.length > 0) throw new InvalidArgumentError('Write it like 52:54:00:12:34:56=both.');
  return [...before, { mac, role }];
}
