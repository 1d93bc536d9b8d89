import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { parse } from 'yaml';

import { integer, several } from './arguments.ts';
import type { ApiClient } from './client.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './failure.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf, readText } from './remote.ts';
import type { Server, Timeline } from './server-text.ts';
import { serverSheet, serverTable, timelineText } from './server-text.ts';
import { watchDeploy, watchRelease } from './server-watch.ts';

interface CreateOptions extends RemoteOptions {
  readonly hostname: string;
  readonly region: string;
  readonly flavor: string;
  readonly image: string;
  readonly sshKey: readonly string[];
  readonly userData?: string;
  readonly tenant?: string;
  readonly project?: string;
  readonly provider?: string;
  readonly cluster?: string;
  readonly dependsOn?: readonly string[];
  readonly idempotencyKey?: string;
  readonly wait?: boolean;
}

export function serverCommands(program: Command, context: CliContext): void {
  const group = program.command('server').description('what tenants order');
  createCommand(group, context);
  batchCommand(group, context);
  readCommands(group, context);
  deleteCommand(group, context);
  timelineCommand(group, context);
}

function createCommand(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('create')
      .description('order a server')
      .requiredOption('--hostname <name>')
      .requiredOption('--region <name>')
      .requiredOption('--flavor <name>')
      .requiredOption('--image <name>', 'name, or name:version')
      .requiredOption('--ssh-key <file>', 'OpenSSH public keys, one a line; may be given several times', several)
      .option('--user-data <file>', 'for cloud-init')
      .option('--tenant <name>', 'for whom, where an operator orders')
      .option('--project <name>')
      .option('--provider <type>', 'what makes it: bare-metal unless told')
      .option('--cluster <name>', "of the provider's; the first in the region unless told")
      .option('--depends-on <id>', 'a server that must be completed before; may be given several times', several)
      .option('--idempotency-key <text>', 'the same again with the same order is the same server')
      .option('--wait', 'until it can be logged in to; shows what happens'),
  ).action(async (options: CreateOptions) => {
    const { api, answer } = await connect(context, options);
    const { hostname, region, flavor, image, project, provider, cluster, dependsOn, idempotencyKey } = options;
    const body = {
      hostname,
      region,
      flavor,
      image,
      project,
      provider,
      cluster,
      dependsOn,
      sshKeys: await publicKeys(options.sshKey),
      userData: options.userData === undefined ? undefined : await readText(options.userData, 'The user data'),
      tenant: options.tenant === undefined ? undefined : await tenantOf(api, options.tenant),
    };
    const headers = idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey };
    const server = (await api.post('/servers', body, headers)) as Server;
    const known = options.wait === true ? await watchDeploy(context, api, server.id) : server;
    answer(known, serverSheet(known));
  });
}

function batchCommand(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('batch <file>')
      .description('order several servers that may depend on each other, all or none')
      .option('--tenant <name>', 'for whom, where an operator orders')
      .option('--idempotency-key <text>', 'the same again within a day is done once'),
  ).action(async (file: string, options: RemoteOptions & { tenant?: string; idempotencyKey?: string }) => {
    const { api, answer } = await connect(context, options);
    const { tenant, idempotencyKey } = options;
    const servers = ordersIn(await readText(file, 'The batch'), file);
    const body = { servers, tenant: tenant === undefined ? undefined : await tenantOf(api, tenant) };
    const headers = idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey };
    const list = (await api.post('/servers/batch', body, headers)) as { servers: Server[] };
    answer(list, serverTable(list.servers));
  });
}

/** A list of orders as the API takes them, in YAML or JSON. */
function ordersIn(text: string, file: string): unknown {
  try {
    return parse(text);
  } catch (cause) {
    throw new UsageError(
      `${file} is neither YAML nor JSON.`,
      'Write a list of orders: [{ name, hostname, … }, …].',
      cause,
    );
  }
}

function readCommands(group: Command, context: CliContext): void {
  asksApi(
    group.command('list').description('list servers, newest first').option('--limit <number>', 'at most', integer),
  ).action(async ({ limit, ...options }: RemoteOptions & { limit?: number }) => {
    const { api, answer } = await connect(context, options);
    const list = (await api.get(`/servers${limit === undefined ? '' : `?limit=${String(limit)}`}`)) as {
      servers: Server[];
    };
    answer(list, serverTable(list.servers));
  });
  asksApi(group.command('show <id>').description('show a server')).action(
    async (id: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const server = (await api.get(pathOf(id))) as Server;
      answer(server, serverSheet(server));
    },
  );
}

function deleteCommand(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('delete <id>')
      .description('release a server, or cancel its request')
      .option('--wait', 'until nothing of it is left; shows what happens'),
  ).action(async (id: string, options: RemoteOptions & { wait?: boolean }) => {
    const { api, answer } = await connect(context, options);
    const server = (await api.delete(pathOf(id))) as Server;
    const known = options.wait === true ? await watchRelease(context, api, server.id) : server;
    answer(known, `${known.id} ${known.state}\n`);
  });
}

function timelineCommand(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('timeline <id>')
      .description('everything seen of a deploy, on one clock')
      .option('--output <file>', 'write it there as JSON'),
  ).action(async (id: string, { output, ...options }: RemoteOptions & { output?: string }) => {
    const { api, answer } = await connect(context, options);
    const timeline = (await api.get(`${pathOf(id)}/timeline`)) as Timeline;
    if (output === undefined) {
      answer(timeline, timelineText(timeline));
      return;
    }
    await writeFile(output, `${JSON.stringify(timeline, undefined, 2)}\n`).catch((cause: unknown) => {
      throw new UsageError(`${output} can't be written.`, 'Name a file in a directory that exists.', cause);
    });
    answer({ file: output }, `${output}: ${String(timeline.entries.length)} entries\n`);
  });
}

async function publicKeys(files: readonly string[]): Promise<string[]> {
  const keys: string[] = [];
  for (const file of files) {
    const text = await readText(file, 'The SSH key');
    if (text.includes('PRIVATE KEY')) {
      throw new UsageError(`${file} is a private key.`, 'Name its public half: it ends in .pub. Nothing was sent.');
    }
    const lines = text.split(/\r?\n/).map((line) => line.trim());
    keys.push(...lines.filter((line) => line !== '' && !line.startsWith('#')));
  }
  return keys;
}

// A member's key may not list tenants, and need not name its own.
function tenantOf(api: ApiClient, nameOrId: string): Promise<string> {
  return nameOrId.startsWith('ten_') ? Promise.resolve(nameOrId) : idOf(api, 'tenants', nameOrId);
}

function pathOf(id: string): string {
  return `/servers/${encodeURIComponent(id)}`;
}
