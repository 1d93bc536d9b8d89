import type { Command } from 'commander';
import { Option } from 'commander';

import type { CliContext } from './context.ts';
import { UsageError } from './failure.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, readText } from './remote.ts';
import { table } from './text.ts';

interface Row {
  readonly id: string;
  readonly serial: string;
  readonly name: string;
  readonly region: string;
  readonly rack: string;
  readonly unit: number;
  readonly bmc: { readonly address: string; readonly port: number };
  readonly machine: string | null;
}

/** `manifest`: the machines that are expected. */
export function manifestCommands(program: Command, context: CliContext): void {
  const group = program.command('manifest').description('machines that are expected, by their serial numbers');
  loadCommand(group, context);
  listCommand(group, context);
  checkCommand(group, context);
  removeCommand(group, context);
}

function loadCommand(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('load <file>')
      .description('expect the machines that this CSV or YAML file lists; the same file again changes nothing')
      .addOption(new Option('--format <format>', "default: by the file's name").choices(['csv', 'yaml'])),
  ).action(async (file: string, options: RemoteOptions & { format?: string }) => {
    const format = options.format ?? formatOf(file);
    const { api, answer } = await connect(context, options);
    const text = await readText(file, 'The manifest');
    const loaded = (await api.post('/manifest', { format, text })) as Record<'added' | 'changed' | 'unchanged', number>;
    const { added, changed, unchanged } = loaded;
    answer(loaded, `${String(added)} added, ${String(changed)} changed, ${String(unchanged)} unchanged\n`);
  });
}

function listCommand(group: Command, context: CliContext): void {
  asksApi(group.command('list').description('list the machines that are expected')).action(
    async (options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const list = (await api.get('/manifest')) as { rows: Row[] };
      const rows = list.rows.map(({ serial, name, region, rack, unit, bmc, machine }) => {
        return [serial, name, region, rack, unit, `${bmc.address}:${String(bmc.port)}`, machine];
      });
      answer(list, table(['serial', 'name', 'region', 'rack', 'unit', 'BMC', 'machine'], rows));
    },
  );
}

interface Check {
  readonly missing: readonly { serial: string; name: string; rack: string; unit: number; waits: string | null }[];
  readonly unexpected: readonly Record<'machine' | 'discovered' | 'serial' | 'mac', string | null>[];
  readonly differing: readonly Record<'machine' | 'serial' | 'what' | 'expected' | 'seen', string>[];
}

function checkCommand(group: Command, context: CliContext): void {
  asksApi(group.command('check').description('hold what was racked against what was expected')).action(
    async (options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const check = (await api.get('/manifest/check')) as Check;
      const rows = [
        ...check.missing.map(({ serial, name, rack, unit, waits }) => {
          return ['missing', serial, name, `${rack}, unit ${String(unit)}`, waits ?? 'It has not been seen.'];
        }),
        ...check.unexpected.map(({ machine, discovered, serial, mac }) => {
          return ['unexpected', serial, machine ?? discovered, mac, 'The manifest does not have it.'];
        }),
        ...check.differing.map(({ machine, serial, what, expected, seen }) => {
          return ['differing', serial, machine, what, `expected ${expected}: ${seen}`];
        }),
      ];
      answer(check, rows.length === 0 ? 'all is as expected\n' : table(['', 'serial', 'machine', 'what', 'how'], rows));
    },
  );
}

function removeCommand(group: Command, context: CliContext): void {
  asksApi(group.command('remove <serial>').description('expect a machine no longer')).action(
    async (serial: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const { rows } = (await api.get('/manifest')) as { rows: Row[] };
      const row = rows.find((each) => each.serial === serial || each.id === serial);
      if (row === undefined) {
        throw new UsageError(`The manifest has no machine ${serial}.`, 'rackstart manifest list shows what it has.');
      }
      await api.delete(`/manifest/${row.id}`);
      answer({ removed: row.serial }, `${row.serial} is expected no longer\n`);
    },
  );
}

function formatOf(file: string): string {
  const ending = /\.(csv|yaml|yml)$/i.exec(file)?.[1]?.toLowerCase();
  if (ending === undefined) {
    throw new UsageError(`What format ${file} has does not show by its name.`, 'Say --format csv or --format yaml.');
  }
  return ending === 'csv' ? 'csv' : 'yaml';
}
