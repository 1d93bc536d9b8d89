import type { Command } from 'commander';
import { Option } from 'commander';

import { integer } from './arguments.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './failure.ts';
import type { Dimm, Disk, Firmware } from './hardware.ts';
import { dimmTable, diskTable, firmwareText } from './hardware.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf, readText } from './remote.ts';
import { facts, table } from './text.ts';

interface Discovered {
  readonly id: string;
  readonly mac: string;
  readonly address: string;
  readonly state: string;
  readonly reason: string | null;
  readonly machine: string | null;
  readonly firstSeenAt: string;
  readonly seenAt: string;
  readonly facts: Facts | null;
}

interface Facts extends Firmware {
  readonly vendor: string;
  readonly model: string;
  readonly serial: string;
  readonly uuid: string;
  readonly bmcAddress: string | null;
  readonly cores: number;
  readonly memoryMib: number;
  readonly dimms: readonly Dimm[];
  readonly disks: readonly Disk[];
  readonly nics: readonly {
    name: string;
    mac: string;
    up: boolean;
    speedMbps: number | null;
    neighbour: string | null;
  }[];
}

interface BmcOptions extends RemoteOptions {
  readonly rack: string;
  readonly bmcPort?: number;
  readonly bmcUser: string;
  readonly bmcPasswordFile: string;
  readonly cipherSuite?: string;
  readonly role?: string;
}

interface AcceptOptions extends BmcOptions {
  readonly name: string;
  readonly bmcAddress?: string;
}

interface RuleOptions extends BmcOptions {
  readonly macPrefix?: string;
  readonly vendor?: string;
  readonly model?: string;
  readonly firmwareVendor?: string;
  readonly firmwareVersion?: string;
  readonly subnet?: string;
  readonly switchPort?: string;
  readonly namePrefix?: string;
  readonly bmcNetwork: string;
}

/** `discovered` and `accept-rule`: machines that booted from the network and that nobody had enrolled. */
export function discoveredCommands(program: Command, context: CliContext): void {
  const group = program.command('discovered').description('unknown machines that booted from the network');
  readCommands(group, context);
  acceptCommand(group, context);
  endCommands(group, context);
  ruleCommands(program.command('accept-rule').description('rules by which unknown machines are enrolled'), context);
}

function readCommands(group: Command, context: CliContext): void {
  asksApi(group.command('list').description('list unknown machines, and why they wait')).action(
    async (options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const list = (await api.get('/discovered-machines')) as { machines: Discovered[] };
      const rows = list.machines.map(({ id, mac, state, reason, facts: told, seenAt }) => {
        return [id, mac, state, told?.serial, told?.model, seenAt, reason];
      });
      answer(list, table(['id', 'MAC', 'state', 'serial', 'model', 'seen', 'why'], rows));
    },
  );
  asksApi(
    group.command('show <machine>').description('show an unknown machine, by its id, MAC or serial number'),
  ).action(async (name: string, options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const machine = await find(api, name);
    answer(machine, sheet(machine));
  });
}

function acceptCommand(group: Command, context: CliContext): void {
  withBmc(
    group
      .command('accept <machine>')
      .description('enrol an unknown machine that waits, and inspect it')
      .requiredOption('--name <name>')
      .requiredOption('--rack <name>', 'where it stands')
      .option('--bmc-address <address>', 'default: what the machine told'),
  ).action(async (nameOrId: string, options: AcceptOptions) => {
    const { api, answer } = await connect(context, options);
    const { id } = await find(api, nameOrId);
    const { name, role, bmcAddress: address } = options;
    const rack = await idOf(api, 'racks', options.rack);
    const body = { name, rack, role, bmc: { ...(await bmcOf(options)), address } };
    const machine = (await api.post(`/discovered-machines/${id}/accept`, body)) as { id: string; state: string };
    answer(machine, `${name} is enrolled as ${machine.id}, and ${machine.state}\n`);
  });
}

function endCommands(group: Command, context: CliContext): void {
  asksApi(group.command('reject <machine>').description('leave an unknown machine alone from here on')).action(
    async (name: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const { id } = await find(api, name);
      const machine = (await api.act(`/discovered-machines/${id}/reject`)) as Discovered;
      answer(machine, `${machine.mac} is left alone\n`);
    },
  );
  asksApi(group.command('forget <machine>').description('the next time it boots, it is a new one')).action(
    async (name: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const { id, mac } = await find(api, name);
      await api.delete(`/discovered-machines/${id}`);
      answer({ forgotten: id }, `${mac} is forgotten\n`);
    },
  );
}

function ruleCommands(group: Command, context: CliContext): void {
  withBmc(
    group
      .command('add <name>')
      .description('enrol unknown machines for which all holds that is given; * in a pattern is any text')
      .requiredOption('--rack <name>', 'where they stand')
      .option('--mac-prefix <mac>', 'how their MACs begin: 52:54:00')
      .option('--vendor <pattern>')
      .option('--model <pattern>')
      .option('--firmware-vendor <pattern>')
      .option('--firmware-version <pattern>')
      .option('--subnet <id>', 'where they boot')
      .option('--switch-port <pattern>', 'what their switch says by LLDP, as anybody there can: leaf-3/*')
      .option('--name-prefix <text>', 'before their serial number, as their name; default: NAME-')
      .requiredOption('--bmc-network <cidr>', 'where their BMCs must be: the password is sent there'),
  ).action(async (name: string, options: RuleOptions) => {
    const { api, answer } = await connect(context, options);
    const { macPrefix, vendor, model, firmwareVendor, firmwareVersion, subnet, switchPort } = options;
    const { namePrefix, role, bmcNetwork: network } = options;
    const rack = await idOf(api, 'racks', options.rack);
    const bmc = { ...(await bmcOf(options)), network };
    const rule = (await api.post('/accept-rules', {
      ...{ name, rack, namePrefix, role, bmc },
      match: { macPrefix, vendor, model, firmwareVendor, firmwareVersion, subnet, switchPort },
    })) as { id: string };
    answer(rule, `${rule.id}\n`);
  });
  asksApi(group.command('list').description('list the rules')).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const list = (await api.get('/accept-rules')) as { rules: Rule[] };
    const rows = list.rules.map(({ name, rack, match, namePrefix, bmc }) => {
      const { macPrefix, vendor, model, firmwareVendor, firmwareVersion, subnet, switchPort } = match;
      const firmware = [firmwareVendor, firmwareVersion];
      return [name, rack, macPrefix, vendor, model, ...firmware, subnet, switchPort, namePrefix, bmc.network];
    });
    answer(list, table(RULE_HEAD, rows));
  });
  asksApi(group.command('remove <name>').description('remove a rule; what it has enrolled stays')).action(
    async (name: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const { rules } = (await api.get('/accept-rules')) as { rules: Rule[] };
      const rule = rules.find((each) => each.name === name || each.id === name);
      if (rule === undefined)
        throw new UsageError(`There is no rule ${name}.`, 'rackstart accept-rule list shows them.');
      await api.delete(`/accept-rules/${rule.id}`);
      answer({ removed: rule.name }, `rule ${rule.name} is removed\n`);
    },
  );
}

const RULE_HEAD = [
  ...['name', 'rack', 'MAC', 'vendor', 'model', 'firmware vendor', 'firmware version', 'subnet', 'switch port'],
  ...['named', 'BMC network'],
];

type Criterion = 'macPrefix' | 'vendor' | 'model' | 'firmwareVendor' | 'firmwareVersion' | 'subnet' | 'switchPort';

interface Rule {
  readonly id: string;
  readonly name: string;
  readonly rack: string;
  readonly match: Readonly<Record<Criterion, string | null>>;
  readonly namePrefix: string;
  readonly bmc: { readonly network: string };
}

function withBmc(command: Command): Command {
  return asksApi(
    command
      .requiredOption('--bmc-user <name>')
      .requiredOption('--bmc-password-file <file>', 'file that holds nothing but the password')
      .option('--bmc-port <port>', 'default: 623', integer)
      .addOption(new Option('--cipher-suite <number>', 'of IPMI; default: 17').choices(['3', '17']))
      .addOption(new Option('--role <role>', 'of the NIC that boots; default: both').choices(['both', 'provisioning'])),
  );
}

async function bmcOf({ bmcPort: port, bmcUser: username, bmcPasswordFile, cipherSuite }: BmcOptions) {
  const password = (await readText(bmcPasswordFile, 'The password file')).replace(/\r?\n$/, '');
  return { port, username, password, cipherSuite: cipherSuite === undefined ? undefined : Number(cipherSuite) };
}

async function find(api: { get(path: string): Promise<unknown> }, name: string): Promise<Discovered> {
  const { machines } = (await api.get('/discovered-machines')) as { machines: Discovered[] };
  const found = machines.filter(({ id, mac, facts: told }) => [id, mac, told?.serial].includes(name));
  const [machine] = found;
  if (machine !== undefined && found.length === 1) return machine;
  throw new UsageError(
    found.length === 0 ? `There is no unknown machine ${name}.` : `Several unknown machines are ${name}.`,
    'rackstart discovered list shows them, with their ids.',
  );
}

function sheet({ id, mac, address, state, reason, machine, firstSeenAt, seenAt, facts: told }: Discovered): string {
  const known = facts({
    ...{ id, state, why: reason, machine, 'booted from': mac, 'leased address': address },
    ...{ 'first seen': firstSeenAt, seen: seenAt },
    ...(told === null
      ? {}
      : {
          hardware: `${told.vendor} ${told.model} ${told.serial}`,
          ...{
            uuid: told.uuid,
            firmware: firmwareText(told),
            BMC: told.bmcAddress,
          },
          ...{ cores: told.cores, memory: `${String(told.memoryMib)} MiB` },
        }),
  });
  if (told === null) return known;
  const nics = told.nics.map(({ name, mac: nic, up, speedMbps, neighbour }) => {
    return [nic, name, up ? 'up' : 'down', speedMbps, neighbour];
  });
  return [
    known,
    table(['NIC', 'name', 'link', 'Mbit/s', 'neighbour'], nics),
    diskTable(told.disks),
    ...(told.dimms.length === 0 ? [] : [dimmTable(told.dimms)]),
  ].join('\n');
}
